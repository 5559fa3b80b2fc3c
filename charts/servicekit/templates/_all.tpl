{{/* Every object of a service; those that render to nothing are left out. */}}
{{- define "servicekit.all" -}}
{{- $objects := list "configMap" "secret" "serviceAccount" "serviceObject" "deployment" "horizontalPodAutoscaler" "scaledObject" "podDisruptionBudget" "networkPolicy" "testNetworkPolicy" "serviceMonitor" }}
{{- range $objects }}
{{- with include (printf "servicekit.%s" .) $ | trim }}
---
{{ . }}
{{- end }}
{{- end }}
{{- range .Values.extraObjects }}
---
{{ tpl (kindIs "string" . | ternary . (toYaml .)) $ }}
{{- end }}
{{- end }}
