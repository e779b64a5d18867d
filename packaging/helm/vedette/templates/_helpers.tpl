{{- define "vedette.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of one role's objects: the node's have a suffix, the cluster's have none. Takes a dict of root and role. */}}
{{- define "vedette.name" -}}
{{- include "vedette.fullname" .root }}{{ if eq .role "node" }}-node{{ end }}
{{- end -}}

{{- define "vedette.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{- define "vedette.labels" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .role }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An update strategy. Helm lays the user's over the default, whose rollingUpdate goes with one type only. */}}
{{- define "vedette.strategy" -}}
{{- toYaml (ternary . (omit . "rollingUpdate") (eq (toString .type) "RollingUpdate")) -}}
{{- end -}}

{{/*
Environment variables of a role, as a YAML list: its own in the places of all agents', each behind those that its `$(NAME)` takes,
as Kubernetes puts in only what stands before.
*/}}
{{- define "vedette.env" -}}
{{- $state := dict "all" dict "done" dict "found" list -}}
{{- $variables := concat (default list .root.Values.env) (default list (index .root.Values .role).env) -}}
{{- range $variables }}{{ $_ := set $state.all .name . }}{{ end -}}
{{- range $variables }}{{ include "vedette.putEnv" (dict "name" .name "state" $state) }}{{ end -}}
{{- toYaml $state.found -}}
{{- end -}}

{{/* Appends a variable to `found`, first those that it takes. Takes a dict of name and state. */}}
{{- define "vedette.putEnv" -}}
{{- $state := .state -}}
{{- if and (hasKey $state.all .name) (not (hasKey $state.done .name)) -}}
{{- $one := get $state.all .name -}}
{{- $_ := set $state.done .name true -}}
{{- range (regexFindAll "[$][(][^()]+[)]" (toString $one.value | replace "$$" "") -1) -}}
{{- include "vedette.putEnv" (dict "name" (. | trimPrefix "$(" | trimSuffix ")") "state" $state) -}}
{{- end -}}
{{- $_ := set $state "found" (append $state.found $one) -}}
{{- end -}}
{{- end -}}

{{/* Name of a Secret's volume: its own, or, where a volume cannot be called so, a part and a hash of it. */}}
{{- define "vedette.volume" -}}
{{- if or (contains "." .) (gt (len .) 56) -}}
secret-{{ . | replace "." "-" | trunc 40 | trimSuffix "-" }}-{{ sha256sum . | trunc 12 }}
{{- else -}}
secret-{{ . }}
{{- end -}}
{{- end -}}

{{- define "vedette.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "vedette.serviceAccount" -}}
{{- $own := (index .root.Values .role).serviceAccount -}}
{{- if $own.create -}}
{{ default (include "vedette.name" .) $own.name }}
{{- else -}}
{{ default "default" $own.name }}
{{- end -}}
{{- end -}}

{{/* The chart's own conf.d of one role as YAML: a file's name to its content. Its StatsD listens as the probes do. */}}
{{- define "vedette.shipped" -}}
{{- $root := .root -}}
{{- $own := index $root.Values .role -}}
{{- $folders := list .role -}}
{{- if and (eq .role "node") $own.hostAccess -}}
{{- if $own.host.logs }}{{ $folders = append $folders "node-logs" }}{{ end -}}
{{- if $own.host.socketDirectory }}{{ $folders = append $folders "node-socket" }}{{ end -}}
{{- end -}}
{{- $conf := dict -}}
{{- range $folder := $folders -}}
{{- range $path, $_ := $root.Files.Glob (printf "files/conf.d/%s/*" $folder) -}}
{{- $text := $root.Files.Get $path -}}
{{- if hasPrefix "[" $root.Values.probes.listen }}{{ $text = $text | replace "0.0.0.0:8125" "'[::]:8125'" }}{{ end -}}
{{- $_ := set $conf (base $path) (fromYaml $text) -}}
{{- end -}}
{{- end -}}
{{- toYaml $conf -}}
{{- end -}}

{{/* What the user gives for conf.d of one role: a YAML list of option and files. */}}
{{- define "vedette.given" -}}
{{- $own := index .root.Values .role -}}
{{- $given := list (dict "option" (printf "%s.conf" .role) "files" (default dict $own.conf)) -}}
{{- if and (eq .role "node") $own.hostAccess }}{{ $given = append $given (dict "option" "node.host.conf" "files" (default dict $own.host.conf)) }}{{ end -}}
{{- toYaml $given -}}
{{- end -}}

{{/* conf.d of one role as YAML: a file's name to its content, the user's in the places of the chart's. refusals.yaml sees to what is unclear. */}}
{{- define "vedette.conf" -}}
{{- $conf := include "vedette.shipped" . | fromYaml -}}
{{- range (include "vedette.given" . | fromYamlArray) -}}
{{- range $file, $content := .files }}{{ if not (kindIs "invalid" $content) }}{{ $_ := set $conf $file $content }}{{ end }}{{ end -}}
{{- end -}}
{{- $kept := dict -}}
{{- range $file, $content := $conf -}}
{{- if and $content (not (and (kindIs "string" $content) (eq (trim (toString $content)) ""))) }}{{ $_ := set $kept $file $content }}{{ end -}}
{{- end -}}
{{- toYaml $kept -}}
{{- end -}}

{{/* Whether a discovery finds the pods of the agent's own node, as that of pods does unless it names another: nothing, or a word. */}}
{{- define "vedette.ownNode" -}}
{{- if and (eq (toString .type) "k8s") (or (not .node) (contains "NODE_NAME" (toString .node))) }}yes{{ end -}}
{{- end -}}

{{/* agent.yaml of one role. Discoveries for all that look at the agent's own node are not for cluster agents: its pods have an agent. */}}
{{- define "vedette.agent" -}}
{{- $values := .root.Values -}}
{{- $made := dict "http" (dict "probes" $values.probes.listen) -}}
{{- if eq .role "node" -}}
{{- $_ := set $made "hostname" "${env:NODE_NAME}" -}}
{{- else if $values.cluster.fleet -}}
{{- $_ := set $made "fleet" (dict "backend" "kubernetes" "name" (include "vedette.fullname" .root)) -}}
{{- end -}}
{{- $common := deepCopy (default dict $values.agent) -}}
{{- if eq .role "cluster" -}}
{{- $kept := list -}}
{{- range $common.autodiscovery }}{{ if not (include "vedette.ownNode" .) }}{{ $kept = append $kept . }}{{ end }}{{ end -}}
{{- $common = omit $common "autodiscovery" -}}
{{- if $kept }}{{ $_ := set $common "autodiscovery" $kept }}{{ end -}}
{{- end -}}
{{- $made = mergeOverwrite $made $common (deepCopy (default dict (index $values .role).agent)) -}}
{{- $sinks := default list $made.sinks -}}
{{- if $values.prometheus.enabled -}}
{{- $auth := printf "/etc/vedette/secrets/%s" $values.prometheus.authSecret -}}
{{- $tls := printf "/etc/vedette/secrets/%s" $values.prometheus.tlsSecret -}}
{{- $page := dict "type" "prometheus" "name" "scraped" "listen" (ternary "[::]:9464" "0.0.0.0:9464" (hasPrefix "[" $values.probes.listen)) "tls_cert" (printf "%s/tls.crt" $tls) "tls_key" (printf "%s/tls.key" $tls) "username" (printf "${file:%s/username}" $auth) "password" (printf "${file:%s/password}" $auth) -}}
{{- $sinks = append $sinks $page -}}
{{- end -}}
{{- if not $sinks -}}
{{- $sinks = list (dict "type" "prometheus") -}}
{{- end -}}
{{- $_ := set $made "sinks" $sinks -}}
{{- toYaml $made -}}
{{- end -}}

{{/* Seconds that pods of a role have to stop: those that are said, else 20 more than the agent's stop_timeout. */}}
{{- define "vedette.grace" -}}
{{- $said := .root.Values.terminationGracePeriodSeconds -}}
{{- $timeout := default "10s" (include "vedette.agent" . | fromYaml).stop_timeout -}}
{{- if kindIs "float64" $timeout }}{{ if eq $timeout (floor $timeout) }}{{ $timeout = int64 $timeout }}{{ end }}{{ end -}}
{{- $timeout = trim (toString $timeout) -}}
{{- $most := "" -}}
{{- if regexMatch "^[0-9]+([.][0-9]+)?(ms|s|m|h|d)?$" $timeout -}}
{{- $seconds := get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0) (default "s" (regexFind "[a-z]+$" $timeout)) -}}
{{- $most = mulf (float64 (regexFind "^[0-9.]+" $timeout)) $seconds | ceil | int64 -}}
{{- else if not $said -}}
{{- fail (printf "agent.stop_timeout of the %s agents is %s, which only they can read: set terminationGracePeriodSeconds too" .role $timeout) -}}
{{- end -}}
{{- if and $said (not (kindIs "string" $most)) (le (int64 $said) (int64 $most)) -}}
{{- fail (printf "terminationGracePeriodSeconds: %d is not more than stop_timeout of the %s agents, %s: kubelets would kill them before they have sent what they hold" (int $said) .role $timeout) -}}
{{- end -}}
{{- default (add (int64 $most) 20) $said | int64 -}}
{{- end -}}

{{/* Every instance of a role's conf.d, with its file's defaults: a YAML list of file, check and options. */}}
{{- define "vedette.instances" -}}
{{- $found := list -}}
{{- range $file, $content := (include "vedette.conf" . | fromYaml) -}}
{{- $body := $content -}}
{{- if kindIs "string" $content -}}
{{- $body = fromYaml $content -}}
{{- if and (eq (len $body) 1) (hasKey $body "Error") -}}
{{- fail (printf "%s.conf: %s: %s" $.role $file $body.Error) -}}
{{- end -}}
{{- end -}}
{{- $check := default (regexReplaceAll "\\.ya?ml$" $file "") $body.check -}}
{{- range $instance := (default list $body.instances) -}}
{{- $options := mergeOverwrite (dict) (deepCopy (default dict $body.defaults)) (deepCopy (default dict $instance)) -}}
{{- range $option := ternary (list "namespaces" "resources") list (eq $check "k8s") -}}
{{- if not (kindIs "slice" (default list (get $options $option))) -}}
{{- fail (printf "%s.conf: %s: %s is a list: write [%v]" $.role $file $option (get $options $option)) -}}
{{- end -}}
{{- end -}}
{{- $found = append $found (dict "file" $file "check" $check "options" $options) -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{/* Ports of a role's StatsD instances that others than the pod can reach, by name of the port: the first is `statsd`. */}}
{{- define "vedette.statsd" -}}
{{- $ports := dict -}}
{{- range (include "vedette.instances" . | fromYamlArray) -}}
{{- if and (eq .check "statsd") (or .options.listen (not (hasKey .options "listen"))) -}}
{{- $listen := default "127.0.0.1:8125" .options.listen | toString -}}
{{- $port := ternary 0 (int (default "8125" (regexFind "[0-9]+$" $listen))) (regexMatch "^(127\\.|localhost(:|$)|\\[?::1\\]?(:|$))" $listen) -}}
{{- if and $port (not (has $port (values $ports))) }}{{ $_ := set $ports (ternary (printf "statsd-%d" $port) "statsd" (hasKey $ports "statsd")) $port }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toYaml $ports -}}
{{- end -}}

{{/*
What a role's instances ask of this cluster's API: `node`, `cluster` and `namespaces` (by name) hold resources, among them
`nodes/stats` of the kubelet and `usage` of metrics.k8s.io; `pods` says that autodiscovery does, `leases` that a fleet does.
*/}}
{{- define "vedette.asks" -}}
{{- $asks := dict "node" list "cluster" list "namespaces" dict "pods" false "leases" false -}}
{{- $everything := list "pods" "nodes" "deployments" "daemonsets" "statefulsets" "jobs" "cronjobs" "horizontalpodautoscalers" "persistentvolumeclaims" "resourcequotas" "poddisruptionbudgets" -}}
{{- range (include "vedette.instances" . | fromYamlArray) -}}
{{- if and (eq .check "k8s") (not .options.kubeconfig) -}}
{{- $node := eq (default "cluster" .options.scope) "node" -}}
{{- $resources := default (ternary (list "pods" "nodes") $everything $node) .options.resources -}}
{{- if and (has "nodes" $resources) (ne (toString .options.usage) "false") }}{{ $resources = append $resources "usage" }}{{ end -}}
{{- if and $node (or .options.kubelet (not (hasKey .options "kubelet"))) }}{{ $resources = append $resources "nodes/stats" }}{{ end -}}
{{- if $node -}}
{{- $_ := set $asks "node" (concat $asks.node $resources) -}}
{{- else if .options.namespaces -}}
{{- range .options.namespaces }}{{ $_ := set $asks.namespaces . (concat (default list (get $asks.namespaces .)) $resources) }}{{ end -}}
{{- if has "nodes" $resources -}}
{{- $_ := set $asks "cluster" (concat $asks.cluster (ternary (list "nodes" "usage") (list "nodes") (has "usage" $resources))) -}}
{{- end -}}
{{- else -}}
{{- $_ := set $asks "cluster" (concat $asks.cluster $resources) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $agent := include "vedette.agent" . | fromYaml -}}
{{- range (default list $agent.autodiscovery) -}}
{{- if and (eq (toString .type) "k8s") (not .kubeconfig) }}{{ $_ := set $asks "pods" true }}{{ end -}}
{{- end -}}
{{- if and $asks.pods $asks.node }}{{ $_ := set $asks "node" (append $asks.node "pods") }}{{ end -}}
{{- with $agent.fleet -}}
{{- if and (eq (toString .backend) "kubernetes") (not .kubeconfig) }}{{ $_ := set $asks "leases" (default $.root.Release.Namespace .namespace) }}{{ end -}}
{{- end -}}
{{- toYaml $asks -}}
{{- end -}}

{{/* The rules of files/rbac-FILE.yaml that are about `resources` (all without). Takes a dict of root, file and resources. */}}
{{- define "vedette.rules" -}}
{{- $kept := list -}}
{{- range $document := splitList "\n---\n" (.root.Files.Get (printf "files/rbac-%s.yaml" .file)) -}}
{{- range (default list (fromYaml $document).rules) -}}
{{- $group := first .apiGroups -}}
{{- $those := list -}}
{{- range .resources -}}
{{- if or (not $.resources) (has (ternary "usage" . (eq $group "metrics.k8s.io")) $.resources) }}{{ $those = append $those . }}{{ end -}}
{{- end -}}
{{- if $those }}{{ $kept = append $kept (dict "apiGroups" .apiGroups "resources" $those "verbs" .verbs) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toYaml $kept -}}
{{- end -}}

{{/*
A (Cluster)Role with its binding. Takes a dict of root, role, name, rules and, for a Role, namespace. Outside of the release's own
namespace the name says which it is, so that releases of one name in two namespaces do not meet; `:` is in no namespace's name.
*/}}
{{- define "vedette.grant" -}}
{{- $kind := ternary "Role" "ClusterRole" (hasKey . "namespace") }}
{{- $home := .root.Release.Namespace }}
{{- $name := .name }}
{{- if not (or (eq $home (include "vedette.fullname" .root)) (eq $home (default "" .namespace))) }}
{{- $name = printf "%s:%s" $home .name }}
{{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ $name | quote }}
  {{- with .namespace }}
  namespace: {{ . | quote }}
  {{- end }}
  labels:
    {{- include "vedette.labels" . | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ $name | quote }}
  {{- with .namespace }}
  namespace: {{ . | quote }}
  {{- end }}
  labels:
    {{- include "vedette.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ $name | quote }}
subjects:
  - kind: ServiceAccount
    name: {{ include "vedette.serviceAccount" . | quote }}
    namespace: {{ .root.Release.Namespace | quote }}
{{- end -}}

{{/* Whether a role asks this cluster's API server, or a kubelet: nothing, or a word. */}}
{{- define "vedette.asksApi" -}}
{{- $asks := include "vedette.asks" . | fromYaml -}}
{{- if or $asks.node $asks.cluster $asks.namespaces $asks.pods $asks.leases }}yes{{ end -}}
{{- end -}}

{{/* Whether a role needs its account's token, for the API server or what else takes it: nothing, or a word. */}}
{{- define "vedette.needsToken" -}}
{{- $account := (index .root.Values .role).serviceAccount -}}
{{- $named := false -}}
{{- range (include "vedette.instances" . | fromYamlArray) -}}
{{- if regexMatch "^(/var)?/run/secrets/kubernetes.io/serviceaccount/" (toString .options.token_file) }}{{ $named = true }}{{ end -}}
{{- end -}}
{{- if or $named $account.automount $account.rules (include "vedette.asksApi" .) }}yes{{ end -}}
{{- end -}}

{{/* Names of the Secrets that a role mounts, one a line: the name below /etc/vedette/secrets, `=`, the Secret's. */}}
{{- define "vedette.secrets" -}}
{{- $values := .root.Values -}}
{{- $all := default dict $values.secrets -}}
{{- $own := default dict (index $values .role).secrets -}}
{{- $names := concat (default list $all.existing) (default list $own.existing) -}}
{{- if $values.prometheus.enabled }}{{ $names = concat $names (list $values.prometheus.tlsSecret $values.prometheus.authSecret) }}{{ end -}}
{{- range (uniq $names) }}{{ printf "%s=%s\n" . . }}{{ end -}}
{{- if or $all.values $own.values }}{{ printf "values=%s\n" (include "vedette.name" .) }}{{ end -}}
{{- end -}}
