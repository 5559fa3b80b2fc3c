{{/* Names and labels. */}}

{{- define "servicekit.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The full name of a chart of this release that overrides nothing: (dict "name" NAME "root" $). */}}
{{- define "servicekit.fullnameOf" -}}
{{- $release := .root.Release.Name }}
{{- ternary $release (printf "%s-%s" $release .name) (contains .name $release) | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "servicekit.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- include "servicekit.fullnameOf" (dict "name" (include "servicekit.name" .) "root" .) }}
{{- end }}
{{- end }}

{{/* These never change: the selector of a Deployment cannot. */}}
{{- define "servicekit.selectorLabels" -}}
app.kubernetes.io/name: {{ include "servicekit.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "servicekit.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "servicekit.selectorLabels" . }}
{{ include "servicekit.commonLabels" . }}
{{- end }}

{{/* What all objects of a release carry, whatever they belong to. */}}
{{- define "servicekit.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: pinhole
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
name, namespace, labels and annotations of an object: (dict "root" $ "suffix" "-models" "annotations" (dict)). It has the
`name` that is given, or that of the release's service with the suffix, and the labels of the service, or those of the
template `labelsOf`.
*/}}
{{- define "servicekit.metadata" -}}
name: {{ .name | default (printf "%s%s" (include "servicekit.fullname" .root) (.suffix | default "")) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- $labels := include (.labelsOf | default "servicekit.labels") .root | fromYaml }}
  {{- mergeOverwrite $labels (.labels | default dict) | toYaml | nindent 2 }}
{{- with mergeOverwrite (dict) (.root.Values.commonAnnotations | default dict) (.annotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "servicekit.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "servicekit.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* An image of ours or of others: (dict "image" .Values.image "root" $). A digest wins over a tag. */}}
{{- define "servicekit.image" -}}
{{- $registry := default .image.registry (.root.Values.global).imageRegistry }}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (not (empty $registry)) }}
{{- if .image.digest }}
{{- printf "%s@%s" $name .image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{- define "servicekit.imagePullSecrets" -}}
{{- with concat ((.Values.global).imagePullSecrets | default list) (.Values.imagePullSecrets | default list) | uniq }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where a service of this release is reached: (dict "name" "auth" "url" .Values.authUrl "root" $). */}}
{{- define "servicekit.peerUrl" -}}
{{- if .url }}
{{- tpl .url .root | trimSuffix "/" }}
{{- else }}
{{- printf "http://%s" (include "servicekit.fullnameOf" .) }}
{{- end }}
{{- end }}

{{/*
What this chart says of its service: constants, and what it adds to the objects. See each chart's _service.tpl. It tells
its own name as `Service`: a parent may call it otherwise, by an alias, and Chart.Name is that.
*/}}
{{- define "servicekit.service" -}}
{{- include (printf "%s.service" .Service) . }}
{{- end }}

{{/* How many replicas there are at least, whoever decides. */}}
{{- define "servicekit.minReplicas" -}}
{{- if (.Values.keda).enabled }}
{{- .Values.keda.minReplicaCount }}
{{- else if .Values.autoscaling.enabled }}
{{- .Values.autoscaling.minReplicas }}
{{- else }}
{{- .Values.replicaCount }}
{{- end }}
{{- end }}
