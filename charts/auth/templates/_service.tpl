{{/* What auth is, for the templates of servicekit. */}}
{{- define "auth.service" -}}
prefix: AUTH
settings: auth_service.settings:AuthSettings
hasDatabase: true
peers:
  users: {{ include "servicekit.peerUrl" (dict "name" "users" "url" .Values.usersUrl "root" .) }}
secrets:
  {{- include "servicekit.databaseSecret" . | trim | nindent 2 }}
  {{- include "servicekit.redisSecrets" (dict "settings" (list "rate_limit_redis_url") "root" .) | trim | nindent 2 }}
  key_encryption_keys:
    existingSecret: {{ tpl .Values.keyEncryption.existingSecret . | quote }}
    key: {{ .Values.keyEncryption.existingSecretKey }}
{{- $ports := list }}
{{- range .Values.clientKeys.ports }}
{{- $ports = append $ports (int .) }}
{{- end }}
{{- if .Values.serviceAccountClients.enabled }}
{{- /* Of the API server: the port of its Service, and the one that it usually has behind it. */}}
{{- $ports = concat $ports (list 443 6443) }}
variables:
  AUTH_CLUSTER_ISSUER: {{ .Values.serviceAccountClients.issuer | quote }}
  AUTH_CLUSTER_CA_FILE: /etc/pinhole/cluster/ca.crt
  AUTH_CLUSTER_TOKEN_FILE: /etc/pinhole/cluster/token
volumes:
  - name: cluster
    projected:
      sources:
        - serviceAccountToken:
            path: token
            expirationSeconds: 3600
        - configMap:
            name: kube-root-ca.crt
            items:
              - key: ca.crt
                path: ca.crt
volumeMounts:
  - name: cluster
    mountPath: /etc/pinhole/cluster
    readOnly: true
{{- end }}
{{- with uniq $ports }}
egress:
  {{- range . }}
  - host: ""
    port: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
