{{/* What auth is, for the templates of servicekit. */}}
{{- define "auth.service" -}}
prefix: AUTH
settings: auth_service.settings:AuthSettings
hasDatabase: true
peers:
  users: {{ include "servicekit.peerUrl" (dict "name" "users" "url" .Values.usersUrl "root" .) }}
secrets:
  {{- include "servicekit.databaseSecret" . | trim | nindent 2 }}
{{- end }}
