{{/* What `helm test` runs: the service says through its Service that it is ready. */}}
{{- define "servicekit.testPod" -}}
apiVersion: v1
kind: Pod
metadata:
  {{- $hook := dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded" }}
  {{- include "servicekit.metadata" (dict "root" . "suffix" "-test" "labelsOf" "servicekit.testLabels" "annotations" $hook) | nindent 2 }}
spec:
  {{- include "servicekit.testPodSpec" . | trim | nindent 2 }}
  containers:
    - name: ready
      {{- include "servicekit.testContainer" . | nindent 6 }}
      command: [python, -c]
      args:
        - |
          import httpx, sys
          # A Service may refuse for a moment, as just after a rollout.
          with httpx.Client(transport=httpx.HTTPTransport(retries=7), timeout=30) as http:
              print(http.get(sys.argv[1]).raise_for_status().text)
        - http://{{ include "servicekit.fullname" . }}:{{ .Values.service.port }}/readyz
{{- end }}

{{/* They may ask the services of the release, and nobody may ask them. */}}
{{- define "servicekit.testNetworkPolicy" -}}
{{- if .Values.networkPolicy.enabled }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "servicekit.metadata" (dict "root" . "suffix" "-test" "labelsOf" "servicekit.testLabels") | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ include "servicekit.name" . }}-test
      app.kubernetes.io/instance: {{ .Release.Name }}
  policyTypes: [Ingress, Egress]
  ingress: []
  egress:
    {{- include "servicekit.dnsRule" . | nindent 4 }}
    - to:
        - podSelector:
            matchLabels:
              app.kubernetes.io/instance: {{ .Release.Name }}
              app.kubernetes.io/part-of: pinhole
      ports:
        - port: http
          protocol: TCP
{{- end }}
{{- end }}

{{/* Not the labels that the Service selects. */}}
{{- define "servicekit.testLabels" -}}
app.kubernetes.io/name: {{ include "servicekit.name" . }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{ include "servicekit.commonLabels" . }}
{{- end }}

{{/* On nodes that the service may go to, for its image may run on no others; they need no GPU. */}}
{{- define "servicekit.testPodSpec" -}}
{{- include "servicekit.imagePullSecrets" . }}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: 5
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "servicekit.testContainer" -}}
image: {{ include "servicekit.image" (dict "image" .Values.image "root" .) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
resources:
  requests:
    cpu: 50m
    memory: 64Mi
    ephemeral-storage: 16Mi
  limits:
    cpu: "1"
    memory: 128Mi
    ephemeral-storage: 64Mi
{{- end }}
