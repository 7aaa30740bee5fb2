package apiserver

import (
	"fmt"
	"strings"
	"testing"
)

// mailServer is somebody's, which asks names before it starts. It is to be a Deployment, StatefulSet or DaemonSet.
func mailServer(kind, namespace, name, more string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: %s
metadata: {name: %s, namespace: %s}
spec:
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec:
      automountServiceAccountToken: false
      dnsPolicy: ClusterFirst
%[4]s
      initContainers:
        - name: wait
          image: busybox:1.36
          command: [sh, -c, "until nslookup example.org; do sleep 1; done"]
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      containers:
        - name: postfix
          image: postfix:3
          ports: [{name: smtp, containerPort: 2525}]
          readinessProbe: {tcpSocket: {port: smtp}}
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
          volumeMounts: [{name: queue, mountPath: /var/spool/postfix}]
        - name: rspamd
          image: rspamd:3
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumes: [{name: queue, emptyDir: {}}]
`, kind, name, namespace, strings.Trim(more, "\n"))
}

// unprivileged is a mail server's own security, as "restricted" wants it.
const unprivileged = `
      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
`

// The guide's lines for a sidecar.
const (
	installSidecar = "helm install danelaw deploy/helm/danelaw --namespace mail --set form=sidecar"
	savePatch      = `kubectl -n mail get configmap danelaw -o jsonpath='{.data.patch\.yaml}' >danelaw.patch.yaml`
	applyPatch     = "kubectl -n mail patch deployment postfix --patch-file danelaw.patch.yaml"
)

// patched is what the guide says of a mail server's pod with the sidecar.
var patched = []struct {
	path []any
	is   any
}{
	{[]any{"dnsPolicy"}, "None"}, // it has a resolv.conf of its own
	{[]any{"dnsConfig", "nameservers", 0}, "127.0.0.1"},
	{[]any{"dnsConfig", "nameservers", 1}, nil},
	{[]any{"dnsConfig", "searches", 0}, "mail.svc.cluster.local"},
	{[]any{"dnsConfig", "options", 0, "name"}, "trust-ad"},
	{[]any{"securityContext", "sysctls", 0, "name"}, "net.ipv4.ip_unprivileged_port_start"},
	{[]any{"securityContext", "sysctls", 0, "value"}, "53"},
	{[]any{"initContainers", 0, "name"}, "danelaw"}, // it answers before all others start, also those that wait
	{[]any{"initContainers", 0, "restartPolicy"}, "Always"},
	{[]any{"initContainers", 0, "startupProbe", "httpGet", "path"}, "/health"},
	{[]any{"initContainers", 0, "volumeMounts", 0, "mountPath"}, "/etc/danelaw"},
	{[]any{"initContainers", 0, "securityContext", "capabilities", "add"}, nil}, // the sysctl is enough for port 53
	// what is the mail server's stays as it was
	{[]any{"initContainers", 1, "name"}, "wait"},
	{[]any{"initContainers", 1, "restartPolicy"}, nil},
	{[]any{"initContainers", 2}, nil},
	{[]any{"containers", 0, "name"}, "postfix"},
	{[]any{"containers", 0, "ports", 0, "containerPort"}, 2525.},
	{[]any{"containers", 0, "volumeMounts", 0, "mountPath"}, "/var/spool/postfix"},
	{[]any{"containers", 1, "name"}, "rspamd"},
	{[]any{"containers", 2}, nil},
	{[]any{"securityContext", "runAsUser"}, 1000.},
	{[]any{"volumes", 2}, nil},
}

// sidecar: the guide's lines put danelaw into a mail server's pod, whatever its workload; it is admitted where pod
// security is "restricted", and the volume is that of the ConfigMap. The patch may be applied again: it changes
// nothing, but new pods come with a new configuration.
func (c cluster) sidecar(t *testing.T) {
	c.restrict(t, "mail")
	c.feed(t, apply, mailServer("Deployment", "mail", "postfix", unprivileged))
	c.follow(t, "helm/README.md", installSidecar, savePatch, applyPatch)
	if out := c.follow(t, "helm/README.md", applyPatch); !strings.Contains(out, "(no change)") {
		t.Errorf("patched again: %s", out)
	}
	c.hasSidecar(t, "deployment")
	for _, kind := range []string{"StatefulSet", "DaemonSet"} {
		c.feed(t, apply, mailServer(kind, "mail", "postfix", unprivileged))
		c.run(t, strings.Replace(applyPatch, "deployment", strings.ToLower(kind), 1))
		c.hasSidecar(t, strings.ToLower(kind))
	}
	// of an unknown field `kubectl patch` only warns, which counts as a failure here
	c.refused(t, "sed -i s/restartPolicy/restartPolitics/ danelaw.patch.yaml; "+applyPatch, "", "restartPolitics")

	of := func() any {
		return c.get(t, "mail", "deployment postfix").at("spec", "template", "metadata", "annotations",
			"danelaw/files").value
	}
	before := of()
	c.run(t, "helm -n mail upgrade danelaw deploy/helm/danelaw --reuse-values --set cache=128MiB")
	c.follow(t, "helm/README.md", savePatch, applyPatch)
	if before == nil || before == of() {
		t.Errorf("a new configuration brings no new pods: %v, then %v", before, of())
	}
}

// hasSidecar looks at the pod of a mail server.
func (c cluster) hasSidecar(t *testing.T, kind string) {
	t.Helper()
	workload := c.get(t, "mail", kind+" postfix")
	p := pod(workload, "postfix-"+kind)
	for _, want := range patched {
		if is := p.at("spec").at(want.path...).value; is != want.is {
			t.Errorf("%s: %v is %v, want %v", kind, want.path, is, want.is)
		}
	}
	names := map[any]any{}
	for _, v := range p.at("spec", "volumes").value.([]any) {
		names[object{v}.at("name").value] = object{v}.at("configMap", "name").value
	}
	if of, is := names["queue"]; !is || of != nil || names["danelaw"] != "danelaw" {
		t.Errorf("%s: the volumes are %v", kind, names)
	}
	c.feed(t, create, p.text(t))
}

// ownLists: what Kubernetes replaces as a whole, the patch replaces: nameservers, search domains and options of the
// pod's resolv.conf, and its sysctls.
func (c cluster) ownLists(t *testing.T) {
	c.restrict(t, "mail")
	c.feed(t, apply, mailServer("Deployment", "mail", "own", `
      securityContext:
        runAsNonRoot: true
        runAsUser: 1000
        seccompProfile: {type: RuntimeDefault}
        sysctls: [{name: net.ipv4.tcp_keepalive_time, value: "600"}]
      dnsConfig: {nameservers: [192.0.2.1], options: [{name: timeout, value: "1"}]}
`))
	c.run(t, strings.Replace(applyPatch, "postfix", "own", 1))
	spec := c.get(t, "mail", "deployment own").at("spec", "template", "spec")
	for _, want := range []struct {
		path []any
		is   any
	}{
		{[]any{"securityContext", "sysctls", 0, "name"}, "net.ipv4.ip_unprivileged_port_start"},
		{[]any{"securityContext", "sysctls", 1}, nil},
		{[]any{"dnsConfig", "nameservers", 0}, "127.0.0.1"},
		{[]any{"dnsConfig", "nameservers", 1}, nil},
		{[]any{"dnsConfig", "options", 3}, nil},
	} {
		if is := spec.at(want.path...).value; is != want.is {
			t.Errorf("%v is %v, want %v", want.path, is, want.is)
		}
	}
}

// hostNetwork: a mail server in the node's network cannot have the sidecar, and the API server says why.
func (c cluster) hostNetwork(t *testing.T) {
	c.run(t, "kubectl create namespace node; kubectl -n node create serviceaccount default")
	c.feed(t, apply, mailServer("Deployment", "node", "postfix", "      hostNetwork: true"))
	c.run(t, "helm install danelaw deploy/helm/danelaw --namespace node --set form=sidecar")
	c.run(t, strings.ReplaceAll(savePatch, "mail", "node"))
	c.refused(t, strings.ReplaceAll(applyPatch, "-n mail", "-n node"), "",
		"may not be specified when 'hostNetwork' is true")
}

// mailu: the guide's lines for Mailu patch its three workloads.
func (c cluster) mailu(t *testing.T) {
	c.restrict(t, "mailu")
	for _, name := range []string{"admin", "postfix", "rspamd"} {
		c.feed(t, apply, mailServer("Deployment", "mailu", "mailu-"+name, unprivileged))
	}
	c.follow(t, "mail-suites.md",
		"helm install danelaw deploy/helm/danelaw --namespace mailu --set form=sidecar",
		`kubectl -n mailu get configmap danelaw -o jsonpath='{.data.patch\.yaml}' >danelaw.patch.yaml`,
		"for what in admin postfix rspamd; do",
		"    kubectl -n mailu patch deployment mailu-$what --patch-file danelaw.patch.yaml   # or statefulset",
		"done")
	for _, name := range []string{"admin", "postfix", "rspamd"} {
		workload := c.get(t, "mailu", "deployment mailu-"+name)
		if is := workload.at("spec", "template", "spec", "initContainers", 0, "name").value; is != "danelaw" {
			t.Errorf("mailu-%s: the first container is %v", name, is)
		}
		c.feed(t, create, pod(workload, "mailu-"+name+"-1").text(t))
	}
}
