package notifyql

import "github.com/prometheus/client_golang/prometheus"

// collector gives a Server's Stats to Prometheus.
type collector struct{ s *Server }

type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(Stats) float64
}

func gauge(name, help string, value func(Stats) float64) metric {
	return metric{prometheus.NewDesc("notifyql_"+name, help, nil, nil), prometheus.GaugeValue, value}
}

func counter(name, help string, value func(Stats) int64) metric {
	return metric{prometheus.NewDesc("notifyql_"+name+"_total", help, nil, nil), prometheus.CounterValue, func(s Stats) float64 { return float64(value(s)) }}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func metrics() []metric {
	return []metric{
		gauge("ready", "Whether the server can take subscriptions.", func(s Stats) float64 { return flag(s.Ready) }),
		gauge("listening", "Whether the listener is connected to the database.", func(s Stats) float64 { return flag(s.Listening) }),
		gauge("draining", "Whether the server is shutting down.", func(s Stats) float64 { return flag(s.Draining) }),
		gauge("read_only", "Whether the server refuses to publish.", func(s Stats) float64 { return flag(s.ReadOnly) }),
		gauge("busy", "Whether changes come by reading the log rather than in notifications.", func(s Stats) float64 { return flag(s.Busy) }),
		gauge("relayed", "Whether changes come through a broker.", func(s Stats) float64 { return flag(s.Relayed) }),
		counter("relay_sessions", "Times that this server began to read the database for all.", func(s Stats) int64 { return s.RelaySessions }),
		gauge("leader", "Whether this server says which of the two it is.", func(s Stats) float64 { return flag(s.Leader) }),
		gauge("connections", "Open sockets.", func(s Stats) float64 { return float64(s.Connections) }),
		gauge("subscriptions", "Running subscriptions.", func(s Stats) float64 { return float64(s.Subscriptions) }),
		gauge("groups", "Groups of subscriptions with equal plan and tenants.", func(s Stats) float64 { return float64(s.Groups) }),
		gauge("tail_bytes", "Bytes of transactions kept in memory for subscribers.", func(s Stats) float64 { return float64(s.TailBytes) }),
		counter("connections_opened", "Sockets opened.", func(s Stats) int64 { return s.Opened }),
		gauge("users", "Users with a connection.", func(s Stats) float64 { return float64(s.Users) }),
		gauge("tenants", "Tenants with a connection.", func(s Stats) float64 { return float64(s.Tenants) }),
		gauge("limit_buckets", "Users, tenants and addresses that the limits of rates tell apart.", func(s Stats) float64 { return float64(s.Buckets) }),
		counter("matched", "Changes that concerned a group.", func(s Stats) int64 { return s.Matched }),
		counter("delivered", "Results handed to subscribers.", func(s Stats) int64 { return s.Delivered }),
		counter("overflowed", "Times that a subscription fell too far behind and went on from the log.", func(s Stats) int64 { return s.Overflowed }),
		gauge("catching_up", "Subscriptions that wait for their turn to catch up.", func(s Stats) float64 { return float64(s.CatchingUp) }),
		counter("log_pages_read", "Pages of the log that were read for subscriptions that catch up.", func(s Stats) int64 { return s.PagesRead }),
		counter("rows_read", "Rows of tables that were read for subscriptions that begin with them.", func(s Stats) int64 { return s.RowsRead }),
		counter("dispatched", "Changes handed on.", func(s Stats) int64 { return s.Dispatched }),
		counter("duplicates", "Changes that came twice and were handed on once.", func(s Stats) int64 { return s.Duplicates }),
		counter("anomalies", "Transactions that nobody had notified.", func(s Stats) int64 { return s.Anomalies }),
		counter("sweeps", "Reads of the change log.", func(s Stats) int64 { return s.Sweeps }),
		counter("deserted", "Times that the leader was found gone.", func(s Stats) int64 { return s.Deserted }),
	}
}

var refusedDesc = prometheus.NewDesc("notifyql_refused_total", "What was refused, by the limit that it exceeded.", []string{"limit"}, nil)

// The lags are from when a change is written, by the database's clock, which is before its commit.
var (
	problemsDesc = prometheus.NewDesc("notifyql_problems_total", "Warnings and errors that were logged; /errors has their kinds.", []string{"level"}, nil)
	changesDesc  = prometheus.NewDesc("notifyql_changes_total", "Changes handed on to subscriptions, by kind. Those that are read from the log only by who they concern are one, large, a transaction or part of one.", []string{"kind"}, nil)
	writtenDesc  = prometheus.NewDesc("notifyql_delivery_lag_seconds", "From the write of a change, by the database's clock, to when a socket has taken its event. Of what one subscription is sent at once, the oldest.", nil, nil)
	handedDesc   = prometheus.NewDesc("notifyql_dispatch_lag_seconds", "From the write of a transaction's last change, by the database's clock, to when it is handed on to subscriptions.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- refusedDesc
	ch <- problemsDesc
	ch <- changesDesc
	ch <- writtenDesc
	ch <- handedDesc
	for _, m := range metrics() {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	st := c.s.Stats()
	for i, name := range kindNames {
		ch <- prometheus.MustNewConstMetric(changesDesc, prometheus.CounterValue, float64(c.s.kinds[i].Load()), name)
	}
	ch <- c.s.written.metric(writtenDesc)
	ch <- c.s.handed.metric(handedDesc)
	for level, n := range c.s.problems.Counts() {
		ch <- prometheus.MustNewConstMetric(problemsDesc, prometheus.CounterValue, float64(n), level)
	}
	for name, n := range st.Refused {
		ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(n), name)
	}
	for _, m := range metrics() {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(st))
	}
}
