{{/* Host names of the routes, the first that of the public address. */}}
{{- define "pinhole.hosts" -}}
{{- $host := include "servicekit.hostOf" (include "servicekit.publicUrl" .root) }}
{{- if or (hasPrefix "[" $host) (regexMatch "^[0-9.]+$" $host) }}
{{- fail (printf "global.publicUrl: the host of a route is a name, and %s is an address: name it, or switch ingress and httpRoute off" $host) }}
{{- end }}
- {{ $host | quote }}
{{- range .extra }}
- {{ tpl . $.root | quote }}
{{- end }}
{{- end }}

{{/* Up to 52 characters: the pods of a StatefulSet have its name and a hash, together 63 at most, in a label. */}}
{{- define "pinhole.postgresqlName" -}}
{{- printf "%s-postgresql" (.Release.Name | trunc 41 | trimSuffix "-") }}
{{- end }}

{{/* The full name of one of the services: (dict "service" "auth" "root" $). */}}
{{- define "pinhole.fullnameOf" -}}
{{- $values := index .root.Values .service }}
{{- with $values.fullnameOverride }}
{{- . | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- include "servicekit.fullnameOf" (dict "name" (default .service $values.nameOverride) "root" .root) }}
{{- end }}
{{- end }}

{{/* The table of files/routes.yaml, with the Service of each path. */}}
{{- define "pinhole.routes" -}}
{{- range .Files.Get "files/routes.yaml" | fromYamlArray }}
{{- $values := index $.Values .service }}
{{- if $values.enabled }}
- path: {{ .path }}
  exact: {{ .exact | default false }}
  service: {{ include "pinhole.fullnameOf" (dict "service" .service "root" $) }}
  port: {{ $values.service.port }}
{{- end }}
{{- end }}
{{- end }}

{{/* Annotations of the Ingresses, with those by which cert-manager issues their certificates. */}}
{{- define "pinhole.ingressAnnotations" -}}
{{- $annotations := .Values.ingress.annotations | default dict | deepCopy }}
{{- with .Values.ingress.certManager.issuer }}
{{- $_ := set $annotations "cert-manager.io/issuer" . }}
{{- end }}
{{- with .Values.ingress.certManager.clusterIssuer }}
{{- $_ := set $annotations "cert-manager.io/cluster-issuer" . }}
{{- end }}
{{- toYaml $annotations }}
{{- end }}

{{/* Class and certificate of an Ingress: (dict "root" $ "hosts" HOSTS "secretName" NAME). */}}
{{- define "pinhole.ingressHead" -}}
{{- with .root.Values.ingress.className }}
ingressClassName: {{ . }}
{{- end }}
{{- if hasPrefix "https://" (include "servicekit.publicUrl" .root) }}
tls:
  - hosts:
      {{- toYaml .hosts | nindent 6 }}
    secretName: {{ tpl .secretName .root }}
{{- end }}
{{- end }}

{{/* Of what leads to gRPC; up to 63 characters, for one is a Service. */}}
{{- define "pinhole.grpcName" -}}
{{- printf "%s-grpc" (include "servicekit.fullname" . | trunc 58 | trimSuffix "-") }}
{{- end }}

{{/* What cannot be right, said before anything is installed. */}}
{{- define "pinhole.validate" -}}
{{- $postgresql := include "pinhole.postgresqlName" . }}
{{- if .Values.global.production }}
{{- if .Values.postgresql.enabled }}
{{- fail "global.production is set, and postgresql.enabled is for development: give auth.database and users.database a server of yours" }}
{{- end }}
{{- if not (hasPrefix "https://" (include "servicekit.publicUrl" .)) }}
{{- fail "global.production is set, so global.publicUrl has to be https://: tokens and passwords pass here" }}
{{- end }}
{{- end }}
{{- range $name := list "auth" "users" }}
{{- $values := index $.Values $name }}
{{- if and $values.enabled (not $.Values.postgresql.enabled) (eq (tpl $values.database.host $) $postgresql) (not $values.database.existingSecretUrlKey) }}
{{- fail (printf "postgresql.enabled is off: set %s.database.host, and %s.database.existingSecret with its password" $name $name) }}
{{- end }}
{{- end }}
{{- $taken := dict (include "servicekit.fullname" .) .Chart.Name }}
{{- range $service := list "auth" "users" "inference" }}
{{- if (index $.Values $service).enabled }}
{{- $name := include "pinhole.fullnameOf" (dict "service" $service "root" $) }}
{{- with get $taken $name }}
{{- fail (printf "%s and %s would both be called %s: give the release another name, or one of them by fullnameOverride" . $service $name) }}
{{- end }}
{{- $_ := set $taken $name $service }}
{{- end }}
{{- end }}
{{- $callers := dict "auth" (list .Values.users .Values.inference) "users" (list .Values.auth) }}
{{- range $name, $calling := $callers }}
{{- $values := index $.Values $name }}
{{- $isUntold := false }}
{{- range $calling }}
{{- $isUntold = or $isUntold (and .enabled (empty (get . (printf "%sUrl" $name)))) }}
{{- end }}
{{- if and (or $values.fullnameOverride $values.nameOverride (not $values.enabled) (ne (int ($values.service).port) 80)) $isUntold }}
{{- fail (printf "%s has another name or port, or is not here: tell the others where it is reached, by %s" $name (ternary "users.authUrl and inference.authUrl" "auth.usersUrl" (eq $name "auth"))) }}
{{- end }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.parentRefs: name the Gateway" }}
{{- end }}
{{- range $way := list "ingress" "httpRoute" }}
{{- $values := index $.Values $way }}
{{- if and $values.enabled $values.grpc.host (not (and $.Values.inference.enabled $.Values.inference.grpc.enabled)) }}
{{- fail (printf "%s.grpc.host is set, so inference.grpc.enabled has to be on, or nothing listens where it leads" $way) }}
{{- end }}
{{- end }}
{{- $host := tpl .Values.httpRoute.grpc.host . }}
{{- if and .Values.httpRoute.enabled $host }}
{{- range include "pinhole.hosts" (dict "root" . "extra" .Values.httpRoute.extraHosts) | fromYamlArray }}
{{- if or (eq . $host) (and (hasPrefix "*." .) (hasSuffix (trimPrefix "*" .) $host)) }}
{{- fail (printf "httpRoute.grpc.host: %s is a name of the HTTPRoute, too, and a gateway takes one of both: give it another" $host) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
