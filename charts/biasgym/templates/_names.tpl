{{/* Labels that pods are selected by. Call with (list $ "component"). */}}
{{- define "biasgym.selector" -}}
app.kubernetes.io/name: biasgym
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of an object. Call with (list $ "component"). */}}
{{- define "biasgym.labels" -}}
{{ include "biasgym.selector" . }}
app.kubernetes.io/part-of: biasgym
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{/* Labels of a pod: a sidecar of a service mesh would keep Jobs from ending. Call with (list $ "component"). */}}
{{- define "biasgym.podLabels" -}}
{{ include "biasgym.selector" . }}
app.kubernetes.io/part-of: biasgym
sidecar.istio.io/inject: "false"
{{- end }}

{{/* Image reference. Call with (list $ "key of images"). */}}
{{- define "biasgym.image" -}}
{{- $context := index . 0 -}}
{{- $image := index $context.Values.images (index . 1) -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (printf "v%s" $context.Chart.AppVersion) }}
{{- end -}}
{{- end }}

{{/* Name of the weights' claim. */}}
{{- define "biasgym.weights" -}}
{{ .Values.weights.existingClaim | default (printf "%s-weights" .Values.name) }}
{{- end }}

{{/* Model of the judge, with its revision where one is given. */}}
{{- define "biasgym.judgeModel" -}}
{{ .Values.judge.model }}{{ with .Values.judge.revision }}@{{ . }}{{ end }}
{{- end }}
