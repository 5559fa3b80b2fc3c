{{/* The Deployment. */}}

{{- define "servicekit.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "servicekit.metadata" (dict "root" .) | nindent 2 }}
spec:
  {{- if not (or .Values.autoscaling.enabled (.Values.keda).enabled) }}
  replicas: {{ .Values.replicaCount }}
  {{- end }}
  revisionHistoryLimit: {{ .Values.revisionHistoryLimit }}
  {{- with .Values.startupProbe }}
  # For its node and its image five minutes, and then as long as a pod may take for its start.
  progressDeadlineSeconds: {{ max 600 (add 300 (mul .periodSeconds .failureThreshold)) }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "servicekit.selectorLabels" . | nindent 6 }}
  strategy:
    {{- $strategy := ternary (.Values.gpu).updateStrategy .Values.updateStrategy ((.Values.gpu).enabled | default false) }}
    {{- /* Helm merges what is set with the defaults, which Kubernetes refuses beside Recreate. */}}
    {{- ternary (omit $strategy "rollingUpdate") $strategy (eq $strategy.type "Recreate") | toYaml | nindent 4 }}
  template:
    metadata:
      labels:
        {{- mergeOverwrite (include "servicekit.labels" . | fromYaml) (.Values.podLabels | default dict) | toYaml | nindent 8 }}
      annotations:
        checksum/config: {{ include "servicekit.configMap" . | sha256sum }}
        {{- with include "servicekit.givenSecrets" . }}
        checksum/secret: {{ . | sha256sum }}
        {{- end }}
        {{- with (include "servicekit.service" . | fromYaml).checksums }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with .Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "servicekit.podSpec" . | trim | nindent 6 }}
{{- end }}

{{- define "servicekit.podSpec" -}}
{{- $service := include "servicekit.service" . | fromYaml }}
{{- include "servicekit.imagePullSecrets" . }}
serviceAccountName: {{ include "servicekit.serviceAccountName" . }}
automountServiceAccountToken: {{ .Values.serviceAccount.automount }}
# Variables for each Service of the namespace would be taken for settings.
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
terminationGracePeriodSeconds: {{ add .Values.shutdown.preStopSleepSeconds .Values.shutdown.gracefulTimeoutSeconds 5 }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $service.podSpec }}
{{ toYaml . }}
{{- end }}
{{- $isMigrating := and $service.hasDatabase .Values.migrations.initContainer }}
{{- if or $isMigrating .Values.initContainers }}
initContainers:
  {{- with .Values.initContainers }}
  {{- tpl (toYaml .) $ | nindent 2 }}
  {{- end }}
{{- end }}
{{- if $isMigrating }}
  - name: migrate
    {{- include "servicekit.containerFrame" . | nindent 4 }}
    # Several pods may do it at once: a lock in the database lets one work.
    command: [python, -m, servicekit.migrate, {{ $service.settings }}]
    resources:
      {{- toYaml .Values.migrations.resources | nindent 6 }}
{{- end }}
containers:
  - name: {{ .Chart.Name }}
    {{- include "servicekit.containerFrame" . | nindent 4 }}
    {{- with .Values.command }}
    command:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.args }}
    args:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    ports:
      - name: http
        containerPort: 8000
        protocol: TCP
      {{- with $service.ports }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    startupProbe:
      {{- toYaml .Values.startupProbe | nindent 6 }}
    readinessProbe:
      {{- toYaml .Values.readinessProbe | nindent 6 }}
    livenessProbe:
      {{- toYaml .Values.livenessProbe | nindent 6 }}
    {{- with .Values.shutdown.preStopSleepSeconds }}
    lifecycle:
      # Until nobody sends requests here any more: the server closes its socket at SIGTERM.
      preStop:
        sleep:
          seconds: {{ . }}
    {{- end }}
    resources:
      {{- mergeOverwrite (deepCopy .Values.resources) ($service.resources | default dict) | toYaml | nindent 6 }}
  {{- with .Values.sidecars }}
  {{- tpl (toYaml .) $ | nindent 2 }}
  {{- end }}
volumes:
  - name: tmp
    emptyDir:
      sizeLimit: 256Mi
  {{- with include "servicekit.secretSources" . }}
  - name: secrets
    projected:
      sources:
        {{- . | trim | nindent 8 }}
  {{- end }}
  {{- with $service.volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- tpl (toYaml .) $ | nindent 2 }}
  {{- end }}
{{- with include "servicekit.nodeSelector" . | fromYaml }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := .Values.tolerations }}
{{- if (.Values.gpu).enabled }}
{{- $tolerations = concat ($tolerations | default list) (.Values.gpu.tolerations | default list) }}
{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- tpl (toYaml .) $ | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - labelSelector:
      matchLabels:
        {{- include "servicekit.selectorLabels" $ | nindent 8 }}
    # Each revision is spread for itself, or a rollout would leave its pods where there was room.
    matchLabelKeys: [pod-template-hash]
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "servicekit.nodeSelector" -}}
{{- $gpu := dict }}
{{- if (.Values.gpu).enabled }}
{{- $gpu = .Values.gpu.nodeSelector | default dict | deepCopy }}
{{- end }}
{{- mergeOverwrite $gpu (.Values.nodeSelector | default dict) | toYaml }}
{{- end }}

{{/* Which pod a span comes from, by OpenTelemetry's names; see its "Specifying resource information via an environment variable". */}}
{{- define "servicekit.resourceAttributes" -}}
{{- $fields := dict "k8s.namespace.name" "metadata.namespace" "k8s.node.name" "spec.nodeName" "k8s.pod.name" "metadata.name" "k8s.pod.uid" "metadata.uid" }}
{{- $attributes := list (printf "k8s.deployment.name=%s" (include "servicekit.fullname" .)) }}
{{- range $attribute, $field := $fields }}
{{- $variable := $attribute | replace "." "_" | upper }}
{{- $attributes = printf "%s=$(%s)" $attribute $variable | append $attributes }}
- name: {{ $variable }}
  valueFrom:
    fieldRef:
      fieldPath: {{ $field }}
{{- end }}
{{- range $attribute, $value := .Values.tracing.resourceAttributes }}
{{- $attributes = printf "%s=%s" $attribute (toString $value | urlquery | replace "+" "%20") | append $attributes }}
{{- end }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ join "," $attributes | quote }}
{{- end }}

{{/* What the container and its init container have in common. */}}
{{- define "servicekit.containerFrame" -}}
{{- $service := include "servicekit.service" . | fromYaml -}}
image: {{ include "servicekit.image" (dict "image" .Values.image "root" .) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
envFrom:
  - configMapRef:
      name: {{ include "servicekit.fullname" . }}
  {{- with .Values.extraEnvFrom }}
  {{- tpl (toYaml .) $ | nindent 2 }}
  {{- end }}
env:
  - name: PORT
    value: "8000"
  - name: GRACEFUL_TIMEOUT_SECONDS
    value: {{ .Values.shutdown.gracefulTimeoutSeconds | quote }}
  {{- if include "servicekit.secretSources" . }}
  - name: {{ $service.prefix }}_SECRETS_DIR
    value: /etc/pinhole/secrets
  {{- end }}
  {{- with include "servicekit.secretVariables" . }}
  {{- . | trim | nindent 2 }}
  {{- end }}
  {{- if .Values.tracing.endpoint }}
  {{- include "servicekit.resourceAttributes" . | nindent 2 }}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- tpl (toYaml .) $ | nindent 2 }}
  {{- end }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- if include "servicekit.secretSources" . }}
  - name: secrets
    mountPath: /etc/pinhole/secrets
    readOnly: true
  {{- end }}
  {{- with $service.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- tpl (toYaml .) $ | nindent 2 }}
  {{- end }}
{{- end }}
