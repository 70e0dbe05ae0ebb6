{{- define "wattkeeper.aggregator.env" -}}
- name: WATTKEEPER_AGGREGATOR_LISTEN
  value: {{ printf "%s:9746" (include "wattkeeper.host" .) | quote }}
- name: WATTKEEPER_AGGREGATOR_DATA_DIR
  value: /var/lib/wattkeeper/aggregator
# Whoever may `kubectl exec` here is an operator: the socket knows who asks.
- name: WATTKEEPER_AGGREGATOR_ACCESS__SOCKET
  value: /run/wattkeeper/aggregator.sock
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
{{- if .Values.access.existingSecret }}
- name: WATTKEEPER_AGGREGATOR_ACCESS__TOKENS_FILE
  value: /run/secrets/wattkeeper/access/tokens.toml
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: WATTKEEPER_AGGREGATOR_TLS_SERVER_CONFIG__CERT_FILE
  value: /run/secrets/wattkeeper/tls/tls.crt
- name: WATTKEEPER_AGGREGATOR_TLS_SERVER_CONFIG__KEY_FILE
  value: /run/secrets/wattkeeper/tls/tls.key
{{- end }}
{{- end -}}
