{{- define "tidings.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the pods of the server; they never change. */}}
{{- define "tidings.selector" -}}
app.kubernetes.io/name: tidings
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "tidings.redisSelector" -}}
app.kubernetes.io/name: tidings
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: redis
{{- end -}}

{{/* The internal Service, apart from the public one for those that select Services. */}}
{{- define "tidings.internalSelector" -}}
app.kubernetes.io/name: tidings
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: internal
{{- end -}}

{{/* The port of probes and metrics. */}}
{{- define "tidings.operatorPort" -}}
{{- if .Values.internal.enabled -}}internal{{- else -}}http{{- end -}}
{{- end -}}

{{- define "tidings.labels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "tidings.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "tidings.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "tidings.secret" -}}
{{- .Values.secrets.existing | default (include "tidings.name" .) -}}
{{- end -}}

{{/* The broker; empty if a secret variable has it. */}}
{{- define "tidings.broker" -}}
{{- if .Values.broker.url -}}
{{- .Values.broker.url -}}
{{- else if .Values.redis.enabled -}}
redis://{{ include "tidings.name" . }}-redis:6379
{{- end -}}
{{- end -}}

{{- define "tidings.brokerIsSecret" -}}
{{- if or .Values.secrets.existing (hasKey .Values.secrets.values "TIDINGS_BROKER") -}}true{{- end -}}
{{- end -}}

{{/* More than one node, now or later. */}}
{{- define "tidings.isCluster" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) -}}true{{- end -}}
{{- end -}}

{{/* Whether Kubernetes itself can wait before SIGTERM. */}}
{{- define "tidings.hasPreStopSleep" -}}
{{- if and (gt (int .Values.shutdown.preStop) 0) (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) -}}true{{- end -}}
{{- end -}}

{{/* Values that exclude each other. */}}
{{- define "tidings.check" -}}
{{- if and (not .Values.secrets.existing) (not .Values.secrets.values) -}}
{{- fail "keys are required: set secrets.existing, or secrets.values with TIDINGS_HTTP_API_KEY and TIDINGS_CLIENT_TOKEN_HMAC_SECRET_KEY" -}}
{{- end -}}
{{- if and (include "tidings.isCluster" .) (not (include "tidings.broker" .)) (not (include "tidings.brokerIsSecret" .)) -}}
{{- fail "more than one node needs Redis: set redis.enabled, broker.url, or TIDINGS_BROKER among the secrets" -}}
{{- end -}}
{{- if and (include "tidings.isCluster" .) .Values.persistence.enabled -}}
{{- fail "persistence is for a single node: with several nodes store tables in a bucket (config.tables.store)" -}}
{{- end -}}
{{- if gt (int .Values.shutdown.drain) (int .Values.shutdown.timeout) -}}
{{- fail "shutdown.drain must not be longer than shutdown.timeout" -}}
{{- end -}}
{{- end -}}
