{{/* Nodes with an agent: where the operator's label is there it decides, else labels that tell of GPUs. */}}
{{- define "wattkeeper.nodes" -}}
{{- $label := .Values.agent.deployLabel -}}
{{- if $label -}}
- matchExpressions:
    - key: {{ $label }}
      operator: In
      values: ["true"]
{{ end -}}
{{- if eq .Values.agent.nodes "all" -}}
- matchExpressions:
    - key: {{ $label | default "kubernetes.io/hostname" }}
      operator: {{ if $label }}DoesNotExist{{ else }}Exists{{ end }}
{{- else -}}
- matchExpressions:
    - key: nvidia.com/gpu.present
      operator: In
      values: ["true"]
    {{- if $label }}
    - key: {{ $label }}
      operator: DoesNotExist
    {{- end }}
- matchExpressions:
    - key: cloud.google.com/gke-accelerator
      operator: Exists
    {{- if $label }}
    - key: {{ $label }}
      operator: DoesNotExist
    {{- end }}
{{- end -}}
{{- end -}}

{{- define "wattkeeper.agent.env" -}}
- name: WATTKEEPER_AGENT_NODE
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: WATTKEEPER_AGENT_LISTEN
  value: {{ printf "%s:9745" (include "wattkeeper.host" .) | quote }}
- name: WATTKEEPER_AGENT_ADVERTISE
  value: {{ if .Values.ipv6 }}"[$(POD_IP)]:9745"{{ else }}"$(POD_IP):9745"{{ end }}
- name: WATTKEEPER_AGENT_CLUSTER
  value: {{ .Values.cluster | quote }}
- name: WATTKEEPER_AGENT_AGGREGATOR__URL
  value: {{ include "wattkeeper.url" . | quote }}
{{- if .Values.delivery.existingSecret }}
- name: WATTKEEPER_AGENT_AGGREGATOR__TOKEN_FILE
  value: /run/secrets/wattkeeper/delivery/token
{{- end }}
{{- if include "wattkeeper.ca" . }}
- name: WATTKEEPER_AGENT_AGGREGATOR__CA
  value: /run/secrets/wattkeeper/ca/ca.crt
{{- end }}
- name: WATTKEEPER_AGENT_DATA_DIR
  value: /var/lib/wattkeeper/agent
- name: WATTKEEPER_AGENT_PATH__SYSFS
  value: /host/sys
- name: WATTKEEPER_AGENT_PATH__CGROUPFS
  value: /host/cgroup
- name: WATTKEEPER_AGENT_KUBERNETES__ENABLED
  value: "true"
- name: WATTKEEPER_AGENT_KUBERNETES__POD_RESOURCES
  value: /host/pod-resources/kubelet.sock
- name: WATTKEEPER_AGENT_KUBERNETES__POD_LOGS
  value: /host/pod-logs
{{- if eq .Values.agent.nvml.mode "runtime" }}
- name: NVIDIA_VISIBLE_DEVICES
  value: {{ if .Values.agent.nvml.byVolumeMount }}void{{ else }}all{{ end }}
- name: NVIDIA_DRIVER_CAPABILITIES
  value: utility
{{- else if eq .Values.agent.nvml.mode "host" }}
- name: LD_LIBRARY_PATH
  value: /usr/local/nvidia/lib64
{{- end }}
{{- end -}}

{{/* No folder that has other mounts in it: read-only holds for the mount alone where it is not recursive. */}}
{{- define "wattkeeper.agent.mounts" -}}
- name: config
  mountPath: /etc/wattkeeper
  readOnly: true
- name: state
  mountPath: /var/lib/wattkeeper
- name: tmp
  mountPath: /tmp
{{- if .Values.delivery.existingSecret }}
- name: delivery
  mountPath: /run/secrets/wattkeeper/delivery
  readOnly: true
{{- end }}
{{- if include "wattkeeper.ca" . }}
- name: ca
  mountPath: /run/secrets/wattkeeper/ca
  readOnly: true
{{- end }}
- name: sys-bus
  mountPath: /host/sys/bus
  readOnly: true
- name: sys-class
  mountPath: /host/sys/class
  readOnly: true
- name: sys-devices
  mountPath: /host/sys/devices
  readOnly: true
- name: sys-module
  mountPath: /host/sys/module
  readOnly: true
- name: cgroup
  mountPath: /host/cgroup
  readOnly: true
  {{- if .Values.agent.recursiveReadOnly }}
  recursiveReadOnly: IfPossible
  {{- end }}
- name: pod-resources
  mountPath: /host/pod-resources
  readOnly: true
- name: pod-logs
  mountPath: /host/pod-logs
  readOnly: true
{{- if eq .Values.agent.nvml.mode "host" }}
- name: nvidia
  mountPath: /usr/local/nvidia
  readOnly: true
{{- end }}
{{- if and (eq .Values.agent.nvml.mode "runtime") .Values.agent.nvml.byVolumeMount }}
- name: dev-null
  mountPath: /var/run/nvidia-container-devices/all
  readOnly: true
{{- end }}
{{- end -}}

{{- define "wattkeeper.agent.volumes" -}}
- name: config
  configMap:
    name: {{ include "wattkeeper.fullname" . }}-agent
- name: state
  hostPath:
    path: {{ .Values.agent.stateFolder }}
    type: DirectoryOrCreate
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- if .Values.delivery.existingSecret }}
- name: delivery
  secret:
    secretName: {{ .Values.delivery.existingSecret }}
    defaultMode: 0400
{{- end }}
{{- if include "wattkeeper.ca" . }}
# The authority alone: the key is none of the nodes' business.
- name: ca
  secret:
    secretName: {{ include "wattkeeper.ca" . }}
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}
- name: sys-bus
  hostPath:
    path: /sys/bus
    type: Directory
- name: sys-class
  hostPath:
    path: /sys/class
    type: Directory
- name: sys-devices
  hostPath:
    path: /sys/devices
    type: Directory
- name: sys-module
  hostPath:
    path: /sys/module
    type: Directory
- name: cgroup
  hostPath:
    path: /sys/fs/cgroup
    type: Directory
- name: pod-resources
  hostPath:
    path: {{ .Values.agent.kubeletFolder }}/pod-resources
    type: Directory
- name: pod-logs
  hostPath:
    path: {{ .Values.agent.podLogsFolder }}
    type: Directory
{{- if eq .Values.agent.nvml.mode "host" }}
- name: nvidia
  hostPath:
    path: {{ .Values.agent.nvml.hostFolder }}
    type: Directory
{{- end }}
{{- if and (eq .Values.agent.nvml.mode "runtime") .Values.agent.nvml.byVolumeMount }}
- name: dev-null
  hostPath:
    path: /dev/null
{{- end }}
{{- end -}}
