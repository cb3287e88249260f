{{/* SeaweedFS takes the first user's keys from the environment; all its servers but S3 stay on loopback. */}}
{{- define "biasgym.seaweedfs" -}}
command: [weed]
args:
  - server
  - -dir=/data
  - -ip=127.0.0.1
  - -ip.bind=127.0.0.1
  - -master.telemetry=false
  - -master.volumeSizeLimitMB=1024
  - -volume.max=0
  - -volume.index=leveldb
  - -filer
  - -s3
  - -s3.ip.bind=0.0.0.0
  - -s3.port=9000
  - -s3.iam=false
  - -s3.allowDeleteBucketNotEmpty=false
  - -s3.port.iceberg=0
  - -s3.port.lance=0
env:
  {{- include "biasgym.storeKeysEnv" . | nindent 2 }}
  - name: HOME
    value: /tmp
readinessProbe:
  httpGet: {path: /healthz, port: s3}
  periodSeconds: 5
  failureThreshold: 24
livenessProbe:
  tcpSocket: {port: s3}
  initialDelaySeconds: 60
  periodSeconds: 20
{{- end }}
