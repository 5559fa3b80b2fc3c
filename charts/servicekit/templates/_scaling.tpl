{{/* How many replicas there are, and how many may be away. */}}

{{- define "servicekit.horizontalPodAutoscaler" -}}
{{- if .Values.autoscaling.enabled }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "servicekit.metadata" (dict "root" .) | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "servicekit.fullname" . }}
  minReplicas: {{ .Values.autoscaling.minReplicas }}
  maxReplicas: {{ .Values.autoscaling.maxReplicas }}
  metrics:
    {{- range $resource, $target := dict "cpu" .Values.autoscaling.targetCPUUtilizationPercentage "memory" .Values.autoscaling.targetMemoryUtilizationPercentage }}
    {{- if $target }}
    - type: Resource
      resource:
        name: {{ $resource }}
        target:
          type: Utilization
          averageUtilization: {{ $target }}
    {{- end }}
    {{- end }}
    {{- with .Values.autoscaling.metrics }}
    {{- tpl (toYaml .) $ | nindent 4 }}
    {{- end }}
  behavior:
    {{- toYaml .Values.autoscaling.behavior | nindent 4 }}
{{- end }}
{{- end }}

{{- define "servicekit.scaledObject" -}}
{{- if (.Values.keda).enabled }}
{{- $service := include "servicekit.service" . | fromYaml }}
{{- if .Values.autoscaling.enabled }}
{{- fail (printf "%s: autoscaling.enabled and keda.enabled exclude each other: KEDA makes an autoscaler of its own" .Chart.Name) }}
{{- end }}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "servicekit.metadata" (dict "root" .) | nindent 2 }}
spec:
  scaleTargetRef:
    name: {{ include "servicekit.fullname" . }}
  minReplicaCount: {{ .Values.keda.minReplicaCount }}
  maxReplicaCount: {{ .Values.keda.maxReplicaCount }}
  pollingInterval: {{ .Values.keda.pollingInterval }}
  {{- with .Values.keda.fallback }}
  fallback:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        {{- toYaml .Values.keda.behavior | nindent 8 }}
  triggers:
    {{- range $service.triggers }}
    - type: prometheus
      metricType: AverageValue
      {{- with $.Values.keda.authenticationRef }}
      authenticationRef:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      metadata:
        serverAddress: {{ tpl $.Values.keda.prometheusAddress $ | required "keda.prometheusAddress: where Prometheus answers queries" | quote }}
        query: {{ .query | quote }}
        threshold: {{ .threshold | quote }}
        # No series means that Prometheus does not know, not that nobody asks.
        ignoreNullValues: "false"
    {{- end }}
    {{- with .Values.keda.extraTriggers }}
    {{- tpl (toYaml .) $ | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}

{{/* With one replica a budget would let no node be drained. */}}
{{- define "servicekit.podDisruptionBudget" -}}
{{- if and .Values.podDisruptionBudget.enabled (gt (int (include "servicekit.minReplicas" .)) 1) }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "servicekit.metadata" (dict "root" .) | nindent 2 }}
spec:
  maxUnavailable: {{ .Values.podDisruptionBudget.maxUnavailable }}
  # A pod that is not ready serves nobody, and holds up no drain.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "servicekit.selectorLabels" . | nindent 6 }}
{{- end }}
{{- end }}
