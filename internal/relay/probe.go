package relay

import (
	"bytes"
	"crypto/rand"
)

// probeMark begins a record that tells nothing: somebody has tried the stream. No format has a version of this number.
const probeMark = "\xffnotifyql probe "

// Probe returns a record of so many bytes, or of the fewest that are needed, that all servers pass over without a word, and that is
// no other's.
func Probe(size int) []byte {
	record := append([]byte(probeMark), rand.Text()...)
	return append(record, make([]byte, max(0, size-len(record)))...)
}

func isProbe(record []byte) bool { return bytes.HasPrefix(record, []byte(probeMark)) }
