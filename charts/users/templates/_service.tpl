{{/* What users is, for the templates of servicekit. */}}
{{- define "users.service" -}}
prefix: USERS
settings: users_service.settings:UsersSettings
hasDatabase: true
peers:
  auth: {{ include "servicekit.peerUrl" (dict "name" "auth" "url" .Values.authUrl "root" .) }}
variables:
  USERS_ADMIN_USERNAME: {{ .Values.admin.username | quote }}
  USERS_ADMIN_EMAIL: {{ .Values.admin.email | quote }}
secrets:
  {{- include "servicekit.databaseSecret" . | trim | nindent 2 }}
  {{- include "servicekit.redisSecrets" (dict "settings" (list "rate_limit_redis_url") "root" .) | trim | nindent 2 }}
  admin_password:
    existingSecret: {{ tpl .Values.admin.existingSecret . | quote }}
    key: {{ .Values.admin.existingSecretPasswordKey }}
    value: {{ .Values.admin.password | quote }}
    generate: true
    isKept: {{ .Values.admin.keepPassword }}
    valuesKey: admin.existingSecret
{{- end }}
