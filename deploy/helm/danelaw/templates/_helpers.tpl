{{- define "danelaw.name" -}}
{{- if contains "danelaw" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-danelaw" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "danelaw.selector" -}}
app.kubernetes.io/name: danelaw
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "danelaw.labels" -}}
{{ include "danelaw.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "danelaw.image" -}}
{{- $i := .Values.image }}
{{- if $i.digest }}{{ $i.repository }}@{{ $i.digest }}{{ else }}{{ $i.repository }}:{{ $i.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* The size of the cache in MiB. */ -}}
{{- define "danelaw.cache" -}}
{{- $n := .Values.cache | trimSuffix "MiB" | trimSuffix "GiB" | int }}
{{- if hasSuffix "GiB" .Values.cache }}{{ mul $n 1024 }}{{ else }}{{ $n }}{{ end }}
{{- end }}

{{- /*
The limit on memory in MiB. A danelaw takes its cache and 64 MiB at most; 32 MiB are for what the kernel counts with it: the
buffers of sockets, page tables, stacks.
*/ -}}
{{- define "danelaw.memory" -}}
{{ add (include "danelaw.cache" .) 96 }}
{{- end }}

{{- /*
What Go's heap may take, in MiB: the limit, less what lies outside of it. That are the slabs of the cache (seven eighths), the
22 MiB of the program's own file, and what the kernel takes.
*/ -}}
{{- define "danelaw.heap" -}}
{{- $cache := include "danelaw.cache" . | int }}
{{- sub (include "danelaw.memory" .) (add (sub $cache (div $cache 8)) 22 32) }}
{{- end }}

{{- define "danelaw.reverse" -}}
{{- $r := .Values.cluster.reverse }}
{{- if kindIs "invalid" $r }}{{ $r = eq .Values.form "sidecar" }}{{ end }}
{{- if $r }}true{{ end }}
{{- end }}

{{- define "danelaw.corefile" -}}
{{- $sidecar := eq .Values.form "sidecar" -}}
.:{{ $sidecar | ternary 53 .Values.ports.dns }} {
{{- if $sidecar }}
    bind 127.0.0.1
{{- end }}
    errors
    health :{{ .Values.ports.health }}
    ready :{{ .Values.ports.ready }}
    prometheus :{{ .Values.ports.metrics }}
    danelaw {
{{- range $from, $to := .Values.upstreams }}
        upstream {{ $from }} {{ join " " $to }}
{{- end }}
{{- if .Values.upstreamCA }}
        upstream_ca /etc/danelaw/upstream-ca.pem
{{- end }}
{{- if .Values.trustAnchors }}
        trust_anchor embedded /etc/danelaw/anchors
{{- end }}
{{- with .Values.cluster }}
{{- if .dns }}
        private {{ .domain }}{{ if include "danelaw.reverse" $ }} {{ join " " .networks }}{{ end }}
{{- end }}
{{- end }}
{{- if not $sidecar }}
        allow_clients 127.0.0.0/8 ::1 {{ join " " .Values.allowClients }}
        ad_clients 127.0.0.0/8 ::1 {{ join " " .Values.adClients }}
{{- end }}
        cache {{ .Values.cache }}
        control off
{{- with .Values.options }}
{{ trim . | indent 8 }}
{{- end }}
    }
{{- with .Values.cluster }}
{{- if .dns }}
    forward {{ include "danelaw.reverse" $ | empty | ternary .domain "." }} {{ .dns }} {
        max_concurrent 64
    }
{{- end }}
{{- end }}
}
{{- end }}

{{- /* The container, as that of a pod and as a sidecar. */ -}}
{{- define "danelaw.container" -}}
name: danelaw
image: {{ include "danelaw.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [--conf, /etc/danelaw/Corefile]
env:
  # the limit on memory, less what lies outside of Go's heap: the cache and the base
  - name: GOMEMLIMIT
    value: {{ include "danelaw.heap" . }}MiB
{{- $ports := .Values.ports }}
ports:
{{- if ne .Values.form "sidecar" }}
  - {name: dns, containerPort: {{ $ports.dns }}, protocol: UDP}
  - {name: dns-tcp, containerPort: {{ $ports.dns }}, protocol: TCP}
{{- end }}
  - {name: danelaw-metrics, containerPort: {{ $ports.metrics }}, protocol: TCP}
resources:
  requests:
    cpu: {{ .Values.cpu }}
    memory: {{ include "danelaw.memory" . }}Mi
    ephemeral-storage: 16Mi
  limits:
    memory: {{ include "danelaw.memory" . }}Mi
    ephemeral-storage: 256Mi # the container's log counts
# alive is a process that answers; the internet has no part in it
livenessProbe:
  httpGet: {path: /health, port: {{ $ports.health }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
startupProbe:
  httpGet: {path: /health, port: {{ $ports.health }}}
  periodSeconds: 1
  failureThreshold: 60
# ready is one that has once validated the trust anchor by an upstream; it stays so until it listens no more
readinessProbe:
  httpGet: {path: /ready, port: {{ $ports.ready }}}
  periodSeconds: 5
  timeoutSeconds: 3
{{- if ne .Values.form "sidecar" }}
lifecycle:
  preStop:
    sleep: {seconds: 5} # until no node sends it questions any more
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
volumeMounts:
  - {name: danelaw, mountPath: /etc/danelaw, readOnly: true}
{{- end }}

{{- /* The files in the ConfigMap that danelaw reads. */ -}}
{{- define "danelaw.files" -}}
Corefile: |
{{ include "danelaw.corefile" . | indent 2 }}
{{- if .Values.trustAnchors }}
anchors: |
{{ trim .Values.trustAnchors | indent 2 }}
{{- end }}
{{- if .Values.upstreamCA }}
upstream-ca.pem: |
{{ trim .Values.upstreamCA | indent 2 }}
{{- end }}
{{- end }}

{{- /* The volume with them; the patch beside them is for whoever runs kubectl. */ -}}
{{- define "danelaw.volume" -}}
name: danelaw
configMap:
  name: {{ include "danelaw.name" . }}
  items:
{{- range $file, $_ := include "danelaw.files" . | fromYaml }}
    - {key: {{ $file }}, path: {{ $file }}}
{{- end }}
{{- end }}
