{{- define "biasgym.minio" -}}
command: {{- toYaml .Values.store.minioCommand | nindent 2 }}
args: [server, /data, "--address=:9000"]
env:
  - name: MINIO_ROOT_USER
    valueFrom:
      secretKeyRef:
        name: {{ .Values.store.existingSecret }}
        key: access-key
  - name: MINIO_ROOT_PASSWORD
    valueFrom:
      secretKeyRef:
        name: {{ .Values.store.existingSecret }}
        key: secret-key
  - name: MINIO_UPDATE
    value: "off"
  - name: MINIO_BROWSER
    value: "off"
  - name: HOME
    value: /tmp
readinessProbe:
  httpGet: {path: /minio/health/ready, port: s3}
  periodSeconds: 5
  failureThreshold: 24
livenessProbe:
  httpGet: {path: /minio/health/live, port: s3}
  initialDelaySeconds: 30
  periodSeconds: 20
{{- end }}
