package feed

// State is how a Machine stands to its listener.
type State byte

// The states, in the order of a life.
const (
	Starting  State = iota // not opened yet
	Listening              // notifications are dispatched as they come
	Sweeping               // notifications wait for a sweep that must go first
	Down                   // there is no listener; heartbeats deliver from the log
)

func (s State) String() string {
	return [...]string{"starting", "listening", "sweeping", "down"}[s]
}

// Stats are a Machine's counters. All but Mode and what follows it only grow.
type Stats struct {
	Dispatched   uint64 // transactions and parts of transactions
	Changes      uint64 // in those, but for what only the log has
	Duplicates   uint64 // notices, and swept transactions, that had been dispatched
	LeftToSweep  uint64 // notices not looked at because a sweep finds what they tell of
	Anomalies    uint64 // transactions found by a heartbeat whose notification never came
	Sweeps       uint64 // asked for
	SweepsFailed uint64
	Expired      uint64 // sweeps that came too late: what they were to find was dropped from the log
	Ignored      uint64 // notices dropped because the stream is busy
	Deserted     uint64 // times that it went busy although the leader had not announced it

	Mode     Mode
	State    State
	Open     bool // a transaction has been dispatched in part, and more of it may come
	Held     int  // notices that wait for a sweep
	Frontier int  // transactions that the frontier lists beside its snapshot
	Beside   int  // transactions that a cursor lists beside its tick
}

// Stats returns the counters as they are. Like Step, it is the owner's to call.
func (m *Machine) Stats() Stats {
	s := m.stats
	s.Mode = m.mode
	s.Held, s.Frontier = len(m.held), m.f.Len()
	if m.pos != nil {
		s.Beside = m.pos.Len()
	}
	open, _ := m.f.Open()
	s.Open = open != 0
	switch {
	case !m.started:
		s.State = Starting
	case !m.up:
		s.State = Down
	case m.debt || m.sweep.barrier:
		s.State = Sweeping
	default:
		s.State = Listening
	}
	return s
}
