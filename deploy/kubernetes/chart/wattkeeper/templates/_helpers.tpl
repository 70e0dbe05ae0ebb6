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

{{- define "wattkeeper.scheme" -}}
{{- if .Values.tls.existingSecret -}}https{{- else -}}http{{- end -}}
{{- end -}}

{{- define "wattkeeper.address" -}}
{{- printf "%s-aggregator.%s" (include "wattkeeper.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "wattkeeper.ca" -}}
{{- .Values.agent.caSecret | default (and (not .Values.agent.url) .Values.tls.existingSecret) | default "" -}}
{{- end -}}

{{- define "wattkeeper.url" -}}
{{- if .Values.agent.url -}}
{{- .Values.agent.url -}}
{{- else -}}
{{- printf "%s://%s:%v" (include "wattkeeper.scheme" .) (include "wattkeeper.address" .) .Values.aggregator.service.port -}}
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
