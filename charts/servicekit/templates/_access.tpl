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
  {{- include "servicekit.metadata" (dict "root" . "annotations" .Values.serviceAccount.annotations) | nindent 2 }}
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
    {{- include "servicekit.endpointRule" (dict "root" . "host" $host "port" .Values.database.port) | trim | nindent 4 }}
    {{- end }}
    {{- range $service.egress }}
    {{- include "servicekit.endpointRule" (dict "root" $ "host" .host "port" .port) | trim | nindent 4 }}
    {{- end }}
    {{- with tpl .Values.tracing.endpoint . }}
    {{- include "servicekit.urlRule" (dict "root" $ "name" "" "url" .) | trim | nindent 4 }}
    {{- end }}
    {{- with .Values.networkPolicy.extraEgress }}
    {{- tpl (toYaml .) $ | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}

{{- define "servicekit.dnsRule" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end }}

{{/* A service of this release by its pods, for a policy sees their ports; another one by its address. */}}
{{- define "servicekit.urlRule" -}}
{{- $url := urlParse .url }}
{{- $host := first (splitList ":" $url.host) }}
{{- if eq $host (include "servicekit.fullnameOf" (dict "name" .name "root" .root)) }}
- to:
    - podSelector:
        matchLabels:
          app.kubernetes.io/name: {{ .name }}
          app.kubernetes.io/instance: {{ .root.Release.Name }}
  ports:
    - port: http
      protocol: TCP
{{- else }}
{{- $told := regexFind ":[0-9]+$" $url.host | trimPrefix ":" }}
{{- $port := default (eq $url.scheme "https" | ternary "443" "80") $told }}
{{- include "servicekit.endpointRule" (dict "root" .root "host" $host "port" $port) }}
{{- end }}
{{- end }}

{{/*
A host and a port. `name` is a Service of this namespace, `name.namespace.svc` one of another; an address
is itself; of any other name a policy cannot know the address.
*/}}
{{- define "servicekit.endpointRule" -}}
{{- $parts := splitList "." .host }}
- ports:
    - port: {{ int .port }}
      protocol: TCP
  {{- if regexMatch "^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$" .host }}
  to:
    - ipBlock:
        cidr: {{ .host }}/32
  {{- else if and .host (eq (len $parts) 1) }}
  to:
    - podSelector: {}
  {{- else if and (ge (len $parts) 3) (eq (index $parts 2) "svc") }}
  to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ index $parts 1 }}
  {{- end }}
{{- end }}
