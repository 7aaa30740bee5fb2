package danelaw

import (
	"runtime"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// What is one for the whole process, so that there is no label of a server block.
var (
	reloads = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace, Subsystem: pluginName, Name: "reloads_total",
		Help: "Counter of reloads of the Corefile by result.",
	}, []string{"result"})
	reloadFailed = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: plugin.Namespace, Subsystem: pluginName, Name: "reload_failed",
		Help: "1 if the last reload failed, and the configuration before it is in use.",
	})
	buildInfo = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace, Subsystem: pluginName, Name: "build_info",
		Help: "1, with what danelaw was built from.",
	}, []string{"version", "revision", "goversion"})
)

func init() {
	reloads.WithLabelValues("success") // a counter that appears with its first failure shows no increase
	reloads.WithLabelValues("failure")
	b := ThisBuild()
	buildInfo.WithLabelValues(b.Version, b.Revision, runtime.Version()).Set(1)
}

// ReloadFailed counts a reload that failed before a server block was told of it: its Corefile could not be read or
// understood.
func ReloadFailed() {
	reloads.WithLabelValues("failure").Inc()
	reloadFailed.Set(1)
}

func reloaded() {
	reloads.WithLabelValues("success").Inc()
	reloadFailed.Set(0)
}
