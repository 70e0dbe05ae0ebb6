{{/* Only a small part of the template language is used: tests/chart renders it where there is no Helm. */}}

{{- define "wattkeeper.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "wattkeeper.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "wattkeeper.labels" -}}
{{ include "wattkeeper.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "wattkeeper.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "wattkeeper.host" -}}
{{- if .Values.ipv6 -}}[::]{{- else -}}0.0.0.0{{- end -}}
{{- end -}}

{{- define "wattkeeper.url" -}}
{{- if .Values.agent.url -}}
{{- .Values.agent.url -}}
{{- else -}}
{{- printf "http://%s-aggregator.%s:%v" (include "wattkeeper.fullname" .) .Release.Namespace .Values.aggregator.service.port -}}
{{- end -}}
{{- end -}}

{{- define "wattkeeper.dns" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
    # OpenShift's resolver.
    - port: 5353
      protocol: UDP
    - port: 5353
      protocol: TCP
{{- end -}}
