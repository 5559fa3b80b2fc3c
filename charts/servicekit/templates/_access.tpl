{{/* How a service is reached, by whom, and who it is. */}}

{{- define "servicekit.serviceObject" -}}
{{- $service := include "servicekit.service" . | fromYaml }}
apiVersion: v1
kind: Service
metadata:
  {{- include "servicekit.metadata" (dict "root" . "annotations" .Values.service.annotations) | nindent 2 }}
spec:
  type: {{ .Values.service.type }}
  selector:
    {{- include "servicekit.selectorLabels" . | nindent 4 }}
  ports:
    - name: http
      port: {{ .Values.service.port }}
      targetPort: http
      protocol: TCP
      appProtocol: http
    {{- with $service.servicePorts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "servicekit.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- $name := include "servicekit.serviceAccountName" . | trim }}
  {{- include "servicekit.metadata" (dict "root" . "name" $name "annotations" .Values.serviceAccount.annotations) | nindent 2 }}
automountServiceAccountToken: {{ .Values.serviceAccount.automount }}
{{- end }}
{{- end }}

{{/* All that is not said here is denied, both ways. */}}
{{- define "servicekit.networkPolicy" -}}
{{- $service := include "servicekit.service" . | fromYaml }}
{{- if .Values.networkPolicy.enabled }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "servicekit.metadata" (dict "root" .) | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "servicekit.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports:
        - port: http
          protocol: TCP
        {{- range $service.ports }}
        - port: {{ .name }}
          protocol: TCP
        {{- end }}
      {{- with .Values.networkPolicy.ingressFrom }}
      from:
        {{- tpl (toYaml .) $ | nindent 8 }}
        # The other services of this release, and its tests.
        - podSelector:
            matchLabels:
              app.kubernetes.io/instance: {{ $.Release.Name }}
              app.kubernetes.io/part-of: pinhole
      {{- end }}
    {{- with .Values.networkPolicy.extraIngress }}
    {{- tpl (toYaml .) $ | nindent 4 }}
    {{- end }}
  egress:
    {{- include "servicekit.dnsRule" . | nindent 4 }}
    {{- range $name, $url := $service.peers }}
    {{- include "servicekit.urlRule" (dict "root" $ "name" $name "url" $url) | trim | nindent 4 }}
    {{- end }}
    {{- if $service.hasDatabase }}
    {{- $host := tpl .Values.database.host . }}
    {{- include "servicekit.endpointRule" (dict "host" $host "port" .Values.database.port) | trim | nindent 4 }}
    {{- end }}
    {{- with .Values.redis }}
    {{- if .existingSecret }}
    {{- include "servicekit.endpointRule" (dict "host" (tpl .host $) "port" .port) | trim | nindent 4 }}
    {{- else if .url }}
    {{- $port := include "servicekit.portOf" .url | default "6379" }}
    {{- include "servicekit.endpointRule" (dict "host" (include "servicekit.hostOf" .url) "port" $port) | trim | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- range $service.egress }}
    {{- include "servicekit.endpointRule" (dict "host" .host "port" .port) | trim | nindent 4 }}
    {{- end }}
    {{- with tpl .Values.tracing.endpoint . }}
    {{- include "servicekit.urlRule" (dict "root" $ "name" "" "url" .) | trim | nindent 4 }}
    {{- end }}
    {{- with .Values.networkPolicy.extraEgress }}
    {{- tpl (toYaml .) $ | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}

{{/* Host and port of a URL, the port only where it is told. An IPv6 address has colons of its own, in brackets. */}}
{{- define "servicekit.hostOf" -}}
{{- $address := (urlParse .).host }}
{{- trimSuffix (regexFind ":[0-9]+$" $address) $address }}
{{- end }}

{{- define "servicekit.portOf" -}}
{{- regexFind ":[0-9]+$" (urlParse .).host | trimPrefix ":" }}
{{- end }}

{{- define "servicekit.dnsRule" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end }}

{{/*
Where a URL leads: (dict "url" URL "name" NAME "root" $). `name` is that of the service of ours that answers there,
if it is one. Its pods listen on `http` whatever port their Service has, and a policy sees the ports of pods.
*/}}
{{- define "servicekit.urlRule" -}}
{{- $url := urlParse .url }}
{{- $host := include "servicekit.hostOf" .url }}
{{- $port := include "servicekit.portOf" .url | default (eq $url.scheme "https" | ternary "443" "80") }}
{{- if and .name (eq $host (include "servicekit.fullnameOf" (dict "name" .name "root" .root))) }}
- to:
    - podSelector:
        matchLabels:
          app.kubernetes.io/name: {{ .name }}
          app.kubernetes.io/instance: {{ .root.Release.Name }}
  ports:
    - port: http
      protocol: TCP
{{- else }}
{{- include "servicekit.endpointRule" (dict "host" $host "port" $port "isOurs" (not (empty .name))) }}
{{- end }}
{{- end }}

{{/*
A host and a port. `name` is a Service of this namespace, `name.namespace.svc` one of another; an address
is itself; of any other name a policy cannot know the address.
*/}}
{{- define "servicekit.endpointRule" -}}
{{- $parts := splitList "." .host }}
{{- $address := .host | trimPrefix "[" | trimSuffix "]" }}
{{- $isVersion4 := regexMatch "^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$" $address }}
{{- $isAddress := or $isVersion4 (contains ":" $address) }}
{{- $isHere := and .host (not $isAddress) (eq (len $parts) 1) }}
{{- $isThere := and (ge (len $parts) 3) (eq (index $parts 2) "svc") }}
- ports:
    - port: {{ int .port }}
      protocol: TCP
    {{- if and .isOurs (or $isHere $isThere) }}
    - port: http
      protocol: TCP
    {{- end }}
  {{- if $isAddress }}
  to:
    - ipBlock:
        cidr: {{ $address }}/{{ ternary 32 128 $isVersion4 }}
  {{- else if $isHere }}
  to:
    - podSelector: {}
  {{- else if $isThere }}
  to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ index $parts 1 }}
  {{- end }}
{{- end }}
