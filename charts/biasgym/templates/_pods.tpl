{{/* What every pod has in common. */}}
{{- define "biasgym.pod" -}}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ int64 .Values.security.runAsUser }}
  runAsGroup: {{ int64 .Values.security.runAsGroup }}
  fsGroup: {{ int64 .Values.security.fsGroup }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* What every container has in common. */}}
{{- define "biasgym.container" -}}
imagePullPolicy: IfNotPresent
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Environment of a container that reads models. */}}
{{- define "biasgym.hubEnv" -}}
- name: HF_HOME
  value: /cache/hub
- name: HF_ENDPOINT
  valueFrom:
    secretKeyRef:
      name: {{ .Values.hub.existingSecret }}
      key: endpoint
      optional: true
- name: HF_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .Values.hub.existingSecret }}
      key: token
      optional: true
{{- end }}
