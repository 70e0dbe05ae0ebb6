{{- define "wattkeeper.aggregator.env" -}}
- name: WATTKEEPER_AGGREGATOR_LISTEN
  value: {{ printf "%s:9746" (include "wattkeeper.host" .) | quote }}
- name: WATTKEEPER_AGGREGATOR_DATA_DIR
  value: /var/lib/wattkeeper/aggregator
- name: WATTKEEPER_AGGREGATOR_KUBERNETES__ENABLED
  value: "true"
- name: WATTKEEPER_AGGREGATOR_KUBERNETES__CLUSTER
  value: {{ .Values.cluster | quote }}
{{- if .Values.aggregator.expectedNodes }}
- name: WATTKEEPER_AGGREGATOR_KUBERNETES__NODE_SELECTOR
  value: {{ .Values.aggregator.expectedNodes | quote }}
{{- end }}
{{- if .Values.delivery.existingSecret }}
- name: WATTKEEPER_AGGREGATOR_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .Values.delivery.existingSecret }}
      key: token
{{- end }}
{{- if .Values.aggregator.ledger.existingSecret }}
- name: WATTKEEPER_AGGREGATOR_LEDGER__URL_FILE
  value: /run/secrets/wattkeeper/ledger/url
{{- end }}
{{- end -}}
