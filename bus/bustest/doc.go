// Package bustest holds an adapter for a message broker to what package bus says. An adapter's author calls Run from one
// test, with a broker that is really there, and with the trouble that the suite asks for: the broker is killed, and
// connections are cut, or die without a word.
//
// It also has Memory, a broker in this process that passes the same suite and makes mistakes when asked to, for tests of
// who uses a bus.
package bustest

import (
	"testing"

	"github.com/notifyql/notifyql/bus"
)

// Broker is one running broker.
type Broker struct {
	// Join returns the way of one more server to the stream of this name. The suite closes it.
	Join func(t testing.TB, name string, opts Options) Node
	// Kill ends the broker at once, as kill -9 and the loss of the machine do. Start starts it again under the same
	// address, and returns when it takes connections.
	Kill, Start func(t testing.TB)
}

// Options of a stream. All that join it have the same.
type Options struct {
	// Keep is about how many bytes the broker keeps for readers that are behind; 0 is what the adapter has as its default.
	Keep int64
}

// Node is one server's stream, and what can be done to its connections alone.
type Node struct {
	bus.Stream
	// Cut ends its connections, and refuses new ones until Heal.
	Cut func()
	// Swallow loses from now on what is sent over the connections that there are, both ways, and tells nobody. New ones work.
	Swallow func()
	// Heal ends what Cut began.
	Heal func()
}

// Run runs the suite; not from a test that is parallel to others, since it counts goroutines. start starts a broker that is stopped when its t ends; it is called for each test anew, from several
// goroutines.
func Run(t *testing.T, start func(t testing.TB) Broker) {
	for name, test := range map[string]func(*suite){
		"Order":             order,
		"Late":              late,
		"Slow":              slow,
		"Sizes":             sizes,
		"Behind":            behind,
		"TooFarBehind":      tooFarBehind,
		"Buffers":           buffers,
		"Names":             names,
		"Idle":              idle,
		"Restart":           restart,
		"BrokerDown":        brokerDown,
		"AppenderCutOff":    appenderCutOff,
		"ReaderCutOff":      readerCutOff,
		"ReaderHalfOpen":    readerHalfOpen,
		"AppenderHalfOpen":  appenderHalfOpen,
		"AppenderFollows":   appenderFollows,
		"Cancel":            cancel,
		"Close":             closes,
		"TwoAppenders":      twoAppenders,
		"Random":            random,
		"RestartsWhileBusy": restartsWhileBusy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(&suite{T: t, broker: start(t)})
		})
	}
	t.Run("NoGoroutineIsLeft", func(t *testing.T) { // alone: it counts
		noGoroutineIsLeft(&suite{T: t, broker: start(t)})
	})
}
