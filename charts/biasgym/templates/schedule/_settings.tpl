{{/* What `biasgym pipeline schedule --file` reads. */}}
{{- define "biasgym.schedule" -}}
endpoint: {{ .Values.kfp.endpoint | quote }}
namespace: {{ .Release.Namespace | quote }}
experiment: {{ .Values.schedule.experiment | quote }}
pipeline: {{ .Values.schedule.pipeline | quote }}
name: {{ .Values.schedule.name | quote }}
cron: {{ .Values.schedule.cron | quote }}
max_concurrency: {{ .Values.schedule.maxConcurrency }}
no_catchup: true
models: {{ .Values.schedule.models | toJson }}
organisations: {{ .Values.schedule.organisations | toJson }}
concepts: {{ .Values.schedule.concepts | toJson }}
store:
  url: {{ include "biasgym.storeUrl" . | quote }}
  secret: {{ .Values.store.existingSecret | quote }}
weights: {{ include "biasgym.weights" . | quote }}
hub_secret: {{ .Values.hub.existingSecret | quote }}
{{- if .Values.judge.enabled }}
judge:
  model: {{ .Values.judge.model | quote }}
  revision: {{ .Values.judge.revision | quote }}
  secret: {{ .Values.judge.existingSecret | quote }}
{{- end }}
parameters: {{ .Values.schedule.parameters | toJson }}
{{- end }}
