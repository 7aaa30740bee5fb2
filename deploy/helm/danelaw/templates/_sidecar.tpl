{{- /*
The patch for a Deployment, StatefulSet or DaemonSet of a mail server: danelaw is an init container that goes on (a native
sidecar), so that it answers before the mail server starts, and after it has ended.
*/ -}}
{{- define "danelaw.patch" -}}
spec:
  template:
    metadata:
      annotations:
        danelaw/files: {{ include "danelaw.files" . | sha256sum }}
    spec:
      dnsPolicy: None
      dnsConfig:
        nameservers: [127.0.0.1]
{{- if .Values.cluster.dns }}
        searches:
          - {{ .Release.Namespace }}.svc.{{ .Values.cluster.domain }}
          - svc.{{ .Values.cluster.domain }}
          - {{ .Values.cluster.domain }}
{{- end }}
        options:
          - name: trust-ad
          - name: edns0
          - {name: ndots, value: "1"}
      securityContext:
        sysctls:
          - {name: net.ipv4.ip_unprivileged_port_start, value: "53"}
      $setElementOrder/initContainers:
        - name: danelaw
      initContainers:
        - {{ include "danelaw.container" . | nindent 10 | trim }}
          restartPolicy: Always
      volumes:
        - {{ include "danelaw.volume" . | nindent 10 | trim }}
{{- end }}
