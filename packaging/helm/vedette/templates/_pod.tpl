{{/* The pod of one role. Takes a dict of root and role. */}}
{{- define "vedette.pod" -}}
{{- $values := .root.Values -}}
{{- $own := index $values .role -}}
{{- $host := and (eq .role "node") $own.hostAccess -}}
{{- $mode := ternary "0440" "0444" (not (empty $values.runAs)) -}}{{/* without a user of ours perhaps nobody gives the files to its group */}}
{{- $secrets := compact (splitList "\n" (include "vedette.secrets" .)) -}}
metadata:
  labels:
    {{- include "vedette.labels" . | nindent 4 }}
    {{- with $own.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $own.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "vedette.serviceAccount" . | quote }}
  automountServiceAccountToken: {{ not (empty (include "vedette.needsToken" .)) }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "vedette.grace" . }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    {{- with $values.runAs }}
    runAsUser: {{ int64 . }}
    runAsGroup: {{ int64 . }}
    fsGroup: {{ int64 . }}
    {{- end }}
    {{- if $host }}
    {{- with $own.host.seLinuxOptions }}
    seLinuxOptions:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- end }}
    fsGroupChangePolicy: OnRootMismatch
    {{- if and $host $own.host.logs }}
    supplementalGroups: [0]  # containers' logs are root:root 0640
    {{- end }}
    seccompProfile:
      type: RuntimeDefault
  {{- if and $host (or $own.host.socketDirectory $own.host.stateDirectory) }}
  initContainers:
    - name: folders  # the kubelet makes them root's
      image: {{ include "vedette.image" .root | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      command:
        - chown
        - {{ printf "%d:%d" (int64 $values.runAs) (int64 $values.runAs) | quote }}
        {{- if $own.host.socketDirectory }}
        - /var/run/vedette
        {{- end }}
        {{- if $own.host.stateDirectory }}
        - /var/lib/vedette
        {{- end }}
      securityContext:
        runAsNonRoot: false
        runAsUser: 0
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
          add: [CHOWN]
      resources:
        {{- toYaml $own.resources | nindent 8 }}
      volumeMounts:
        {{- if $own.host.socketDirectory }}
        - name: sockets
          mountPath: /var/run/vedette
        {{- end }}
        {{- if $own.host.stateDirectory }}
        - name: state
          mountPath: /var/lib/vedette
        {{- end }}
  {{- end }}
  containers:
    - name: vedette
      image: {{ include "vedette.image" .root | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: [run, --conf, /etc/vedette/conf.d]
      env:
        - name: NODE_NAME
          valueFrom:
            fieldRef:
              fieldPath: spec.nodeName
        {{- with include "vedette.env" . | fromYamlArray }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: probes
          containerPort: {{ regexFind "[0-9]+$" $values.probes.listen }}
        {{- range $name, $port := (include "vedette.statsd" . | fromYaml) }}
        - name: {{ $name }}
          containerPort: {{ $port }}
          protocol: UDP
        {{- end }}
        {{- if $values.prometheus.enabled }}
        - name: metrics
          containerPort: 9464
        {{- end }}
      livenessProbe:
        httpGet:
          path: /healthz
          port: probes
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: probes
        periodSeconds: 5
        timeoutSeconds: 5
      resources:
        {{- toYaml $own.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: conf
          mountPath: /etc/vedette/conf.d
          readOnly: true
        - name: state
          mountPath: /var/lib/vedette
        - name: tmp
          mountPath: /tmp
        {{- range $secrets }}
        - name: {{ include "vedette.volume" (first (splitList "=" .)) }}
          mountPath: /etc/vedette/secrets/{{ first (splitList "=" .) }}
          readOnly: true
        {{- end }}
        {{- if and $host $own.host.logs }}
        - name: logs
          mountPath: /var/log
          readOnly: true
        {{- end }}
        {{- if and $host $own.host.socketDirectory }}
        - name: sockets
          mountPath: /var/run/vedette
        {{- end }}
        {{- if and $host $own.host.root }}
        - name: root
          mountPath: /host
          readOnly: true
          mountPropagation: HostToContainer
        {{- end }}
        {{- with $own.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: conf  # a whole folder, never a subPath: the agent sees what the kubelet puts there, and reloads
      configMap:
        name: {{ include "vedette.name" . | quote }}
        defaultMode: {{ $mode }}
    - name: state
      {{- if and $host $own.host.stateDirectory }}
      hostPath:
        path: {{ $own.host.stateDirectory | quote }}
        type: DirectoryOrCreate
      {{- else }}
      emptyDir:
        sizeLimit: {{ $own.stateSizeLimit | quote }}
      {{- end }}
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- range $secrets }}
    - name: {{ include "vedette.volume" (first (splitList "=" .)) }}
      secret:
        secretName: {{ last (splitList "=" .) | quote }}
        defaultMode: {{ $mode }}
    {{- end }}
    {{- if and $host $own.host.logs }}
    - name: logs
      hostPath:
        path: /var/log
        type: Directory
    {{- end }}
    {{- if and $host $own.host.socketDirectory }}
    - name: sockets
      hostPath:
        path: {{ $own.host.socketDirectory | quote }}
        type: DirectoryOrCreate
    {{- end }}
    {{- if and $host $own.host.root }}
    - name: root
      hostPath:
        path: /
        type: Directory
    {{- end }}
    {{- with $own.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $own.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $own.affinity }}
  affinity:
    {{- toYaml $own.affinity | nindent 4 }}
  {{- else if and (eq .role "cluster") (gt (int $own.replicas) 1) }}
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "vedette.selector" . | nindent 16 }}
  {{- end }}
  {{- with $own.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
{{- end -}}
