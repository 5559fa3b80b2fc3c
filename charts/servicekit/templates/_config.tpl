{{/* What a service is told: a ConfigMap of variables, and files of secrets. */}}

{{/* The origin that the world sees. A path would be in the issuer, and the routes would not lead there. */}}
{{- define "servicekit.publicUrl" -}}
{{- $url := tpl .Values.global.publicUrl . | trimSuffix "/" }}
{{- if not (regexMatch "^https?://[^/?#@[:space:]]+$" $url) }}
{{- fail (printf "global.publicUrl has to be an origin, as https://pinhole.example.com, with no path, and is %s" $url) }}
{{- end }}
{{- $url }}
{{- end }}

{{/* The variables, as a map. What `config` says wins over what follows from other values. */}}
{{- define "servicekit.variables" -}}
{{- $service := include "servicekit.service" . | fromYaml }}
{{- $variables := dict }}
{{- $_ := set $variables (printf "%s_ISSUER" $service.prefix) (include "servicekit.publicUrl" .) }}
{{- range $name, $url := $service.peers }}
{{- $_ := set $variables (printf "%s_%s_URL" $service.prefix (upper $name)) $url }}
{{- end }}
{{- if $service.hasDatabase }}
{{- $_ := set $variables (printf "%s_MIGRATE_AT_START" $service.prefix) (not .Values.migrations.initContainer) }}
{{- with .Values.database }}
{{- if not .existingSecretUrlKey }}
{{- $host := tpl .host $ | required (printf "%s: set database.host, or database.existingSecretUrlKey" $.Chart.Name) }}
{{- $url := printf "postgresql+asyncpg://%s@%s:%v/%s" (urlquery .user) $host .port .name }}
{{- $_ := set $variables (printf "%s_DATABASE_URL" $service.prefix) $url }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $value := $service.variables }}
{{- $_ := set $variables $name $value }}
{{- end }}
{{- with .Values.tracing }}
{{- if .endpoint }}
{{- $endpoint := tpl .endpoint $ }}
{{- if not (regexMatch "^https?://[^/]" $endpoint) }}
{{- fail (printf "%s: tracing.endpoint has to be an address, as http://collector.telemetry.svc:4318, and is %s" $.Chart.Name $endpoint) }}
{{- end }}
{{- $_ := set $variables "OTEL_EXPORTER_OTLP_ENDPOINT" $endpoint }}
{{- $_ := set $variables "OTEL_EXPORTER_OTLP_PROTOCOL" .protocol }}
{{- $_ := set $variables "OTEL_TRACES_SAMPLER" .sampler }}
{{- $_ := set $variables "OTEL_TRACES_SAMPLER_ARG" .samplerArg }}
{{- end }}
{{- end }}
{{- $_ := set $variables "FORWARDED_ALLOW_IPS" (join "," .Values.trustedProxies) }}
{{- $_ := set $variables "LOG_LEVEL" .Values.logLevel }}
{{- $_ := set $variables "LOG_FORMAT" .Values.logFormat }}
{{- range $key, $value := .Values.config }}
{{- if not (kindIs "invalid" $value) }}
{{- $_ := set $variables (printf "%s_%s" $service.prefix (snakecase $key | upper)) $value }}
{{- end }}
{{- end }}
{{- range $name, $value := $variables }}
{{ $name }}: {{ (kindIs "string" $value) | ternary (tpl (toString $value) $) (toJson $value) | quote }}
{{- end }}
{{- end }}

{{- define "servicekit.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "servicekit.metadata" (dict "root" .) | nindent 2 }}
data:
  {{- include "servicekit.variables" . | trim | nindent 2 }}
{{- end }}

{{/*
Secrets of a service, from `secrets` in its _service.tpl: a map from setting to
{existingSecret, key, value, generate, isKept}. Without an existing secret the value given, or one that
is made once and found again by later upgrades, goes into a Secret of the release. What is generated
outlives the release with `isKept`.
*/}}
{{- define "servicekit.ownSecrets" -}}
{{- $service := include "servicekit.service" . | fromYaml }}
{{- $existing := (lookup "v1" "Secret" .Release.Namespace (include "servicekit.fullname" .)).data | default dict }}
{{- range $setting, $secret := $service.secrets }}
{{- if not $secret.existingSecret }}
{{- if or $secret.value $secret.generate }}
{{- if $.Values.global.production }}
{{- fail (printf "%s: global.production is set, so %s has to come from a Secret of yours: name it in %s" $.Chart.Name $setting $secret.valuesKey) }}
{{- end }}
{{- if $secret.value }}
{{ $secret.key }}: {{ $secret.value | toString | b64enc }}
{{- else }}
{{ $secret.key }}: {{ get $existing $secret.key | default (randAlphaNum 32 | b64enc) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Of what is in the release's Secret only that which values can change: what is generated stays as it is. */}}
{{- define "servicekit.givenSecrets" -}}
{{- $service := include "servicekit.service" . | fromYaml }}
{{- range $setting, $secret := $service.secrets }}
{{- if and $secret.value (not $secret.existingSecret) }}
{{- printf "%s=%v;" $setting $secret.value }}
{{- end }}
{{- end }}
{{- end }}

{{- define "servicekit.secret" -}}
{{- $annotations := dict }}
{{- range (include "servicekit.service" . | fromYaml).secrets }}
{{- if and .isKept (not .existingSecret) (not .value) }}
{{- $_ := set $annotations "helm.sh/resource-policy" "keep" }}
{{- end }}
{{- end }}
{{- with include "servicekit.ownSecrets" . }}
apiVersion: v1
kind: Secret
metadata:
  {{- include "servicekit.metadata" (dict "root" $ "annotations" $annotations) | nindent 2 }}
type: Opaque
data:
  {{- . | trim | nindent 2 }}
{{- end }}
{{- end }}

{{/* Sources of the projected volume with the secrets, each a file named as its variable. */}}
{{- define "servicekit.secretSources" -}}
{{- $service := include "servicekit.service" . | fromYaml }}
{{- range $setting, $secret := $service.secrets }}
{{- if and (or $secret.existingSecret $secret.value $secret.generate) (not $secret.asVariable) }}
- secret:
    name: {{ $secret.existingSecret | default (include "servicekit.fullname" $) }}
    items:
      - key: {{ $secret.key }}
        path: {{ printf "%s_%s" $service.prefix $setting | lower }}
{{- end }}
{{- end }}
{{- end }}

{{/* Secrets that no setting can take from a file: the PostgreSQL driver reads its password from a variable. */}}
{{- define "servicekit.secretVariables" -}}
{{- $service := include "servicekit.service" . | fromYaml }}
{{- range $setting, $secret := $service.secrets }}
{{- if and $secret.asVariable (or $secret.existingSecret $secret.value) }}
- name: {{ $secret.asVariable }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret.existingSecret | default (include "servicekit.fullname" $) }}
      key: {{ $secret.key }}
{{- end }}
{{- end }}
{{- end }}

{{/* The entry of a database in `secrets`. */}}
{{- define "servicekit.databaseSecret" -}}
{{- $secret := tpl .Values.database.existingSecret . }}
{{- if .Values.database.existingSecretUrlKey }}
database_url:
  existingSecret: {{ $secret | required (printf "%s: database.existingSecretUrlKey needs database.existingSecret" .Chart.Name) }}
  key: {{ .Values.database.existingSecretUrlKey }}
{{- else }}
database_password:
  asVariable: PGPASSWORD
  existingSecret: {{ $secret | quote }}
  key: {{ ternary .Values.database.existingSecretPasswordKey "database-password" (not (empty $secret)) }}
  value: {{ .Values.database.password | quote }}
  valuesKey: database.existingSecret
{{- end }}
{{- end }}

{{/* The entries of a Redis in `secrets`: (dict "settings" (list "rate_limit_redis_url") "root" $). All are one address. */}}
{{- define "servicekit.redisSecrets" -}}
{{- $redis := .root.Values.redis }}
{{- $secret := tpl $redis.existingSecret .root }}
{{- range .settings }}
{{ . }}:
  existingSecret: {{ $secret | quote }}
  {{- /* In a Secret of the release each setting has a key of its own. */}}
  key: {{ ternary $redis.existingSecretUrlKey (replace "_" "-" .) (not (empty $secret)) }}
  value: {{ $redis.url | quote }}
  valuesKey: redis.existingSecret
{{- end }}
{{- end }}
