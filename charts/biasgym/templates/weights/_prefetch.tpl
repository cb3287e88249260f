{{/* Models to fetch, one a line. */}}
{{- define "biasgym.prefetchModels" -}}
{{- range .Values.prefetch.models }}
{{ . }}
{{- end }}
{{- if and .Values.prefetch.judge .Values.judge.enabled }}
{{ include "biasgym.judgeModel" . }}
{{- end }}
{{- end }}

{{- define "biasgym.prefetchJob" -}}
backoffLimit: 4
activeDeadlineSeconds: {{ int64 .Values.prefetch.deadlineSeconds }}
template:
  metadata:
    labels: {{- include "biasgym.podLabels" (list $ "prefetch") | nindent 6 }}
  spec:
    {{- include "biasgym.pod" . | nindent 4 }}
    serviceAccountName: {{ .Values.name }}-prefetch
    automountServiceAccountToken: false
    restartPolicy: OnFailure
    containers:
      - name: prefetch
        image: {{ include "biasgym.image" (list $ "cpu") }}
        {{- include "biasgym.container" . | nindent 8 }}
        command: [biasgym, prefetch]
        args:
          {{- range include "biasgym.prefetchModels" . | trim | splitList "\n" }}
          - {{ . }}
          {{- end }}
        env:
          {{- include "biasgym.hubEnv" . | nindent 10 }}
          - name: HOME
            value: /tmp
        resources: {{- toYaml .Values.prefetch.resources | nindent 10 }}
        volumeMounts:
          - name: weights
            mountPath: /cache
          - name: scratch
            mountPath: /tmp
    volumes:
      - name: weights
        persistentVolumeClaim:
          claimName: {{ include "biasgym.weights" . }}
      - name: scratch
        emptyDir:
          sizeLimit: 1Gi
{{- end }}
