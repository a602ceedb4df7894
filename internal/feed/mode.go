package feed

// Mode is what the stream of notifications does.
type Mode byte

// The modes. The zero one is that of a source without modes.
const (
	Quiet Mode = iota // all that is committed is notified
	Busy              // writers may be silent: the log has what is committed, and it is swept
)

func (m Mode) String() string { return [...]string{"quiet", "busy"}[m] }

// ModeRow is the database's row on the mode: what the leader announced last. Each announcement's Number is greater than that
// of the one before, but for those that a crash of the server undid.
type ModeRow struct {
	Mode   Mode
	Number int64
}
