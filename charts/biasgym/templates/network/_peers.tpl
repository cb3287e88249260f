{{/* Pods of pipeline runs, here and in the further namespaces. */}}
{{- define "biasgym.runPeers" -}}
- podSelector: {{- include "biasgym.runSelector" . | nindent 4 }}
{{- range .Values.networkPolicy.runNamespaces }}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . }}
  podSelector: {{- include "biasgym.runSelector" . | nindent 4 }}
{{- end }}
{{- end }}

{{- define "biasgym.runSelector" -}}
matchExpressions:
  - key: pipeline/runid
    operator: Exists
{{- end }}

{{/* Pods of one part of this release. Call with (list $ "component"). */}}
{{- define "biasgym.part" -}}
podSelector:
  matchLabels: {{- include "biasgym.selector" . | nindent 4 }}
{{- end }}

{{- define "biasgym.kfpPeer" -}}
namespaceSelector:
  matchLabels:
    kubernetes.io/metadata.name: {{ .Values.kfp.namespace }}
{{- end }}

{{/* Egress rules that several policies share. */}}
{{- define "biasgym.toDns" -}}
- to: {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}

{{- define "biasgym.toHttps" -}}
- to:
    {{- range .Values.networkPolicy.https }}
    - ipBlock: {{- toYaml . | nindent 8 }}
    {{- end }}
  ports:
    - {port: 443, protocol: TCP}
{{- end }}

{{- define "biasgym.toApiServer" -}}
- to:
    {{- range .Values.networkPolicy.apiServerAddresses }}
    - ipBlock: {{- toYaml . | nindent 8 }}
    {{- end }}
  ports:
    {{- range .Values.networkPolicy.apiServerPorts }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}

{{/* Policies see a pod's own port, which a Service in another namespace hides: there, any port. */}}
{{- define "biasgym.toStore" -}}
{{- if ne .Values.store.kind "existing" }}
- to:
    - {{- include "biasgym.part" (list $ "store") | nindent 6 }}
  ports:
    - {port: 9000, protocol: TCP}
{{- else if .Values.store.namespace }}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .Values.store.namespace }}
{{- else }}
- to:
    {{- range .Values.networkPolicy.storeAddresses }}
    - ipBlock: {{- toYaml . | nindent 8 }}
    {{- end }}
  ports:
    - {port: {{ include "biasgym.storePort" . }}, protocol: TCP}
{{- end }}
{{- end }}
