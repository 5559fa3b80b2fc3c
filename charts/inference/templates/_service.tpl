{{/* What inference is, for the templates of servicekit. */}}
{{- define "inference.service" -}}
{{- $fullname := include "servicekit.fullname" . }}
{{- $volume := .Values.modelVolume }}
{{- $ports := list }}
{{- range .Values.models }}
{{- if or (hasPrefix "https:" .source) (hasPrefix "torchvision:" .source) }}
{{- $ports = append $ports (include "servicekit.portOf" .source | default "443") }}
{{- end }}
{{- end }}
prefix: INFERENCE
settings: inference_service.settings:InferenceSettings
hasDatabase: false
peers:
  auth: {{ include "servicekit.peerUrl" (dict "name" "auth" "url" .Values.authUrl "root" .) }}
{{- if .Values.grpc.enabled }}
ports:
  - name: grpc
    containerPort: 8004
    protocol: TCP
servicePorts:
  - name: grpc
    port: {{ .Values.grpc.port }}
    targetPort: grpc
    protocol: TCP
    appProtocol: kubernetes.io/h2c
{{- end }}
variables:
  {{- if .Values.grpc.enabled }}
  INFERENCE_GRPC_PORT: 8004
  INFERENCE_GRPC_HOST: 0.0.0.0
  {{- end }}
  INFERENCE_WEIGHTS_DIR: /var/lib/pinhole/weights
  INFERENCE_MODES_DIR: /var/lib/pinhole/weights/modes
  {{- if and .Values.gpu.enabled (not .Values.weightsCache.existingClaim) }}
  INFERENCE_MODE: eager
  {{- else }}
  {{- /* The other pods answer meanwhile, and the autoscaler does not count a pod that is not ready. */}}
  INFERENCE_MODE_SEARCH_FIRST: true
  {{- end }}
  {{- if .Values.models }}
  INFERENCE_MODELS_FILE: /etc/pinhole/models/models.yaml
  {{- end }}
secrets:
  {{- include "servicekit.redisSecrets" (dict "settings" (list "cache_redis_url" "rate_limit_redis_url") "root" .) | trim | nindent 2 }}
{{- with uniq $ports }}
egress:
  {{- range . }}
  - host: ""
    port: {{ . }}
  {{- end }}
{{- end }}
volumes:
  - name: weights
    {{- with .Values.weightsCache.existingClaim }}
    persistentVolumeClaim:
      claimName: {{ . }}
    {{- else }}
    emptyDir:
      sizeLimit: {{ .Values.weightsCache.sizeLimit }}
    {{- end }}
  {{- if .Values.models }}
  - name: models-file
    configMap:
      name: {{ $fullname }}-models
  {{- end }}
  {{- if or $volume.existingClaim $volume.image.reference }}
  - name: models
    {{- if $volume.existingClaim }}
    persistentVolumeClaim:
      claimName: {{ $volume.existingClaim }}
      readOnly: true
    {{- else }}
    image:
      reference: {{ $volume.image.reference }}
      pullPolicy: {{ $volume.image.pullPolicy }}
    {{- end }}
  {{- end }}
volumeMounts:
  - name: weights
    mountPath: /var/lib/pinhole/weights
  {{- if .Values.models }}
  - name: models-file
    mountPath: /etc/pinhole/models
    readOnly: true
  {{- end }}
  {{- if or $volume.existingClaim $volume.image.reference }}
  - name: models
    mountPath: {{ $volume.mountPath }}
    readOnly: true
  {{- end }}
{{- with include "inference.modelsFile" . }}
checksums:
  checksum/models: {{ . | sha256sum }}
{{- end }}
{{- if .Values.gpu.enabled }}
{{- if or .Values.gpu.runtimeClassName .Values.gpu.dra.enabled }}
podSpec:
  {{- with .Values.gpu.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- if .Values.gpu.dra.enabled }}
  resourceClaims:
    - name: gpu
      resourceClaimTemplateName: {{ include "inference.claimName" . }}
  {{- end }}
{{- end }}
resources:
  {{- if .Values.gpu.dra.enabled }}
  claims:
    - name: gpu
  {{- else }}
  # Of an extended resource the limit is the request.
  limits:
    {{- mergeOverwrite (deepCopy (.Values.resources.limits | default dict)) (dict .Values.gpu.resourceName .Values.gpu.count) | toYaml | nindent 4 }}
  requests:
    {{- mergeOverwrite (deepCopy (.Values.resources.requests | default dict)) (dict .Values.gpu.resourceName .Values.gpu.count) | toYaml | nindent 4 }}
  {{- end }}
{{- end }}
triggers:
  {{- $selector := printf "namespace=%q,service=%q" .Release.Namespace $fullname }}
  - query: sum(inference_requests_in_flight{ {{- $selector -}} })
    threshold: {{ .Values.keda.targetInFlight }}
  # What comes and goes between two looks is in the average.
  - query: sum(avg_over_time(inference_requests_in_flight{ {{- $selector -}} }[1m]))
    threshold: {{ .Values.keda.targetInFlight }}
  # Of each pod the device that has most to do. One that has computed nothing yet has no series: it is idle, if its pods are known at all.
  - query: sum(max by (pod) (rate(inference_device_busy_seconds_total{ {{- $selector -}} }[1m]))) or 0 * sum(inference_requests_in_flight{ {{- $selector -}} })
    threshold: {{ .Values.keda.targetDeviceUtilization }}
{{- end }}

{{- define "inference.modelsFile" -}}
{{- with .Values.models }}
models:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What a ResourceClaimTemplate says of the device. */}}
{{- define "inference.claim" -}}
spec:
  devices:
    requests:
      - name: gpu
        exactly:
          deviceClassName: {{ .Values.gpu.dra.deviceClassName }}
          allocationMode: ExactCount
          count: {{ .Values.gpu.count }}
          {{- with .Values.gpu.dra.selectors }}
          selectors:
            {{- range . }}
            - cel:
                expression: {{ . | quote }}
            {{- end }}
          {{- end }}
{{- end }}

{{/* A template cannot change: one that claims something else has another name. */}}
{{- define "inference.claimName" -}}
{{- printf "%s-gpu-%s" (include "servicekit.fullname" .) (include "inference.claim" . | sha256sum | trunc 8) }}
{{- end }}
