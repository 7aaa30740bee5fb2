package apiserver

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestAPIServer: a kube-apiserver takes the plain manifest, all renderings of the chart and the sidecar's patch,
// without an unknown field or a warning, and admits their pods where pod security is "restricted". What is wrong it
// refuses.
func TestAPIServer(t *testing.T) {
	if os.Getenv(variable) == "" {
		t.Skipf("SKIPPED: it builds Kubernetes first, which takes 5 minutes of two processors and 3 GiB of memory and "+
			"disk, a tenth of what .ci/run may take, and no change outside of deploy/helm needs it; to run it set "+
			"%s=1 (README.md)", variable)
	}
	c := start(t)
	c.restrict(t, "kube-system")
	// in this order: some go on from what others leave
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"manifest", c.manifest}, {"helm", c.helm}, {"operator", c.operator}, {"renderings", c.renderings},
		{"mistakes", c.mistakes}, {"pod security", c.podSecurity}, {"sidecar", c.sidecar}, {"own lists", c.ownLists},
		{"host network", c.hostNetwork}, {"Mailu", c.mailu},
	} {
		t.Run(test.name, test.run)
	}
}

// restrict makes a namespace with Kubernetes's strictest pod security, and an account for its pods, which a controller
// would make.
func (c cluster) restrict(t *testing.T, namespace string) {
	t.Helper()
	c.feed(t, apply, fmt.Sprintf(`apiVersion: v1
kind: Namespace
metadata:
  name: %s
  labels: {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: %[1]s}
`, namespace))
}

// apply is server-side, and fails at an unknown field.
const apply = "kubectl apply --server-side --validate=strict -f -"

// create makes an object that is not there yet.
const create = "kubectl create --validate=strict -f -"

// pod is one of a workload's template, as its controller would make it.
func pod(workload object, name string) object {
	template := workload.at("spec", "template")
	return object{map[string]any{
		"apiVersion": "v1", "kind": "Pod", "spec": template.at("spec").value,
		"metadata": map[string]any{
			"name": name, "namespace": workload.at("metadata", "namespace").value,
			"labels":      template.at("metadata", "labels").value,
			"annotations": template.at("metadata", "annotations").value,
		},
	}}
}

// objects are what the default rendering makes.
var objects = []string{"configmap", "deployment.apps", "networkpolicy.networking.k8s.io", "poddisruptionbudget.policy",
	"service", "serviceaccount"}

// manifest: `kubectl apply -f` takes the plain manifest, the Service gets its address, and the pod is admitted.
// Applied again, and server-side, it changes nothing.
func (c cluster) manifest(t *testing.T) {
	const line = "kubectl apply -f deploy/helm/danelaw.yaml"
	out := c.follow(t, "helm/README.md", line)
	for _, o := range objects {
		if !strings.Contains(out, o+"/danelaw created\n") {
			t.Errorf("there is no %s", o)
		}
	}
	if n := strings.Count(out, "\n"); n != len(objects) {
		t.Errorf("%d objects, want %d", n, len(objects))
	}
	if ip := c.get(t, "kube-system", "service danelaw").at("spec", "clusterIP").value; ip != "10.96.0.53" {
		t.Errorf("the Service has the address %v", ip)
	}
	before := c.versions(t)
	out = c.follow(t, "helm/README.md", line)
	// of a PodDisruptionBudget kubectl always says that it is configured
	if unchanged := strings.Count(out, " unchanged\n"); unchanged != len(objects)-1 || c.versions(t) != before {
		t.Errorf("applied again:\n%s\n%s, then %s", out, before, c.versions(t))
	}
	deployment := c.get(t, "kube-system", "deployment danelaw")
	c.run(t, "kubectl apply --server-side --validate=strict -f deploy/helm/danelaw.yaml")
	after := c.get(t, "kube-system", "deployment danelaw").at("spec").text(t)
	if was := deployment.at("spec").text(t); was != after {
		t.Errorf("applied server-side it is\n%s\nbefore it was\n%s", after, was)
	}
	c.feed(t, create, pod(deployment, "danelaw-1").text(t))
	// a second one needs an address of its own
	const other = "helm template other deploy/helm/danelaw --namespace kube-system | "
	c.refused(t, other+apply, "", "failed to allocate IP 10.96.0.53: provided IP is already allocated")
	c.run(t, other+"kubectl delete --ignore-not-found -f -; kubectl delete -f deploy/helm/danelaw.yaml")
	c.remove(t, "kube-system", "danelaw-1")
}

// remove takes a pod away, which no node is there to end.
func (c cluster) remove(t *testing.T, namespace, pod string) {
	t.Helper()
	out, err := c.try("kubectl -n "+namespace+" delete pod --grace-period=0 --force "+pod, "")
	if !strings.Contains(out, `pod "`+pod+`" force deleted`) { // of which it warns
		t.Fatalf("%v\n%s", err, out)
	}
}

// versions are those of all objects of the manifest.
func (c cluster) versions(t *testing.T) string {
	t.Helper()
	return c.run(t, "kubectl -n kube-system get "+strings.Join(objects, ",")+
		` -o jsonpath='{range .items[*]}{.kind}={.metadata.resourceVersion} {end}' -l app.kubernetes.io/name=danelaw`)
}

// helm: `helm install`, as the guide has it, makes the same objects, and `helm uninstall` leaves none.
func (c cluster) helm(t *testing.T) {
	c.follow(t, "helm/README.md",
		"helm install danelaw deploy/helm/danelaw --namespace kube-system --set service.clusterIP=10.96.0.53")
	for _, o := range objects {
		c.get(t, "kube-system", o+" danelaw")
	}
	c.feed(t, create, pod(c.get(t, "kube-system", "deployment danelaw"), "danelaw-1").text(t))
	c.remove(t, "kube-system", "danelaw-1")
	t.Log(c.run(t, "helm -n kube-system uninstall danelaw"))
	if left := c.run(t, "kubectl -n kube-system get "+strings.Join(objects, ",")+
		" -l app.kubernetes.io/name=danelaw -o name"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// operator: with the resources of the Prometheus operator, a ServiceMonitor and a PrometheusRule are made, of which the
// first finds the Service. Without them, the user is told what is missing.
func (c cluster) operator(t *testing.T) {
	c.restrict(t, "watched")
	template := "helm template danelaw deploy/helm/danelaw --namespace watched --set service.clusterIP=10.96.0.54 " +
		"--set serviceMonitor.enabled=true --set prometheusRule.enabled=true"
	rendering := c.run(t, template)
	c.refused(t, apply, rendering, `no matches for kind "ServiceMonitor"`)
	c.run(t, "kubectl apply --server-side --validate=strict -f crds/monitoring.coreos.com_servicemonitors.yaml "+
		"-f crds/monitoring.coreos.com_prometheusrules.yaml && kubectl wait --timeout=5m --for=condition=Established "+
		"crd/servicemonitors.monitoring.coreos.com crd/prometheusrules.monitoring.coreos.com")
	t.Log(c.feed(t, apply, rendering))
	monitor := c.get(t, "watched", "servicemonitor danelaw").at("spec")
	var labels []string
	for name, value := range monitor.at("selector", "matchLabels").fields() {
		labels = append(labels, fmt.Sprintf("%s=%v", name, value))
	}
	found := c.get(t, "watched", "service -l "+strings.Join(labels, ",")).at("items")
	port := found.at(0, "spec", "ports", 2)
	if found.at(1).value != nil || port.at("name").value != monitor.at("endpoints", 0, "port").value ||
		port.at("port").value != 9153. {
		t.Errorf("the monitor %v looks at %v", monitor, found)
	}
	if rule := c.get(t, "watched", "prometheusrule danelaw"); rule.at("spec", "groups", 0, "rules", 9).value == nil {
		t.Errorf("there are no rules: %v", rule)
	}
	for old, spoilt := range map[string]string{"  endpoints:": "  endpoint:", "- alert:": "- alarm:"} {
		if !strings.Contains(rendering, old) {
			t.Errorf("the rendering has no %q", old)
		}
		c.refused(t, apply, strings.Replace(rendering, old, spoilt, 1), strings.Trim(spoilt, " -:"))
	}
}

// renderings: all forms of the chart are taken where pod security is "restricted", and their pods admitted.
func (c cluster) renderings(t *testing.T) {
	text, err := os.ReadFile("../cluster/testdata/cases.yaml")
	var cases map[string]map[string]any
	if err == nil {
		err = yaml.UnmarshalStrict(text, &cases)
	}
	if err != nil || len(cases) == 0 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	pods := 0
	for i, name := range names(cases) {
		t.Run(name, func(t *testing.T) {
			namespace := "case-" + name
			c.restrict(t, namespace)
			values := write(t, filepath.Join(t.TempDir(), "values.yaml"), object{cases[name]}.text(t))
			t.Log(c.run(t, fmt.Sprintf("helm template danelaw deploy/helm/danelaw --namespace %s --values %s "+
				"--set service.clusterIP=10.96.1.%d | %s", namespace, values, i+1, apply)))
			for _, d := range c.get(t, namespace, "deployments").at("items").value.([]any) {
				pods++
				c.feed(t, create, pod(object{d}, "danelaw-1").text(t))
			}
		})
	}
	if pods != len(cases)-1 { // that of the sidecar is somebody else's
		t.Errorf("%d pods of %d cases", pods, len(cases))
	}
}

// names of a map, in order.
func names[T any](m map[string]T) (all []string) {
	for name := range m {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// mistakes: the API server refuses each object of the manifest with a field that there is not, and values that are
// impossible. So the tests here find what there is to find.
func (c cluster) mistakes(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(project, "deploy/helm/danelaw.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	manifest := strings.ReplaceAll(string(text), "10.96.0.53", "10.96.0.55")
	spoilt := 0
	for _, o := range strings.Split(manifest, "\n---\n") {
		if !strings.Contains(o, "\nkind: ") {
			continue
		}
		spoilt++
		c.refused(t, apply, o+"\nmistake: true\n", "mistake")
	}
	if spoilt != len(objects) {
		t.Errorf("%d objects, want %d", spoilt, len(objects))
	}
	for _, m := range []struct{ old, spoilt, reason string }{
		{"readOnlyRootFilesystem:", "readOnlyRoot:", `.containers[name="danelaw"].securityContext.readOnlyRoot`},
		{"maxUnavailable: 1", "maxUnavailable: many", "maxUnavailable"},
		{"port: 1053", "port: 105300", "must be between 1 and 65535"},
		{"path: /health", "route: /health", "route"},
	} {
		if !strings.Contains(manifest, m.old) {
			t.Errorf("the manifest has no %q", m.old)
		}
		c.refused(t, apply, strings.Replace(manifest, m.old, m.spoilt, 1), m.reason)
	}
	c.run(t, "kubectl delete --ignore-not-found -f deploy/helm/danelaw.yaml")
}

// podSecurity: what danelaw's pod does without is needed for "restricted": with more rights it is not admitted.
func (c cluster) podSecurity(t *testing.T) {
	c.restrict(t, "strict")
	c.run(t, "helm template danelaw deploy/helm/danelaw --namespace strict --set service.clusterIP=10.96.0.56 | "+apply)
	for name, m := range map[string]struct {
		change func(spec object)
		reason string
	}{
		"privileged": {func(spec object) {
			spec.at("containers", 0, "securityContext").fields()["privileged"] = true
			spec.at("containers", 0, "securityContext").fields()["allowPrivilegeEscalation"] = true
		}, "privileged"},
		"escalation": {func(spec object) {
			delete(spec.at("containers", 0, "securityContext").fields(), "allowPrivilegeEscalation")
		}, "allowPrivilegeEscalation != false"},
		"root": {func(spec object) { spec.at("containers", 0, "securityContext").fields()["runAsUser"] = 0 },
			"must not set runAsUser=0"},
		"host-network": {func(spec object) { spec.fields()["hostNetwork"] = true }, "host namespaces"},
		"capability": {func(spec object) {
			spec.at("containers", 0, "securityContext", "capabilities").fields()["add"] = []string{"NET_ADMIN"}
		}, "unrestricted capabilities"},
		"seccomp": {func(spec object) {
			delete(spec.at("securityContext").fields(), "seccompProfile")
			delete(spec.at("containers", 0, "securityContext").fields(), "seccompProfile")
		}, "seccompProfile"},
	} {
		t.Run(name, func(t *testing.T) {
			p := pod(c.get(t, "strict", "deployment danelaw"), name)
			m.change(p.at("spec"))
			c.refused(t, create, p.text(t), `violates PodSecurity "restricted:latest"`)
			c.refused(t, create, p.text(t), m.reason)
		})
	}
	c.feed(t, create, pod(c.get(t, "strict", "deployment danelaw"), "unchanged").text(t))
}
