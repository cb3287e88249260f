{{/* Address of the object store. */}}
{{- define "biasgym.storeEndpoint" -}}
{{- if eq .Values.store.kind "existing" -}}
{{ .Values.store.endpoint }}
{{- else -}}
http://{{ .Values.name }}-store.{{ .Release.Namespace }}:9000
{{- end -}}
{{- end }}

{{/* Port of the object store as an address from outside gives it. */}}
{{- define "biasgym.storePort" -}}
{{- $url := urlParse (include "biasgym.storeEndpoint" .) -}}
{{- if regexMatch ":[0-9]+$" $url.host -}}
{{ regexFind "[0-9]+$" $url.host }}
{{- else -}}
{{ ternary 443 80 (eq $url.scheme "https") }}
{{- end -}}
{{- end }}

{{/* Folder of the store that biasgym keeps results in. */}}
{{- define "biasgym.storeUrl" -}}
s3://{{ .Values.store.bucket }}{{ with .Values.store.prefix }}/{{ . }}{{ end }}
{{- end }}

{{/* Where KFP keeps artifacts. */}}
{{- define "biasgym.pipelineRoot" -}}
{{ .Values.kfp.pipelineRoot | default (printf "%s/artifacts" (include "biasgym.storeUrl" .)) }}
{{- end }}

{{/* Keys of the store, under the names that S3 programs read. */}}
{{- define "biasgym.storeKeysEnv" -}}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ .Values.store.existingSecret }}
      key: access-key
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.store.existingSecret }}
      key: secret-key
{{- end }}
