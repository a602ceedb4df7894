// Package clientframe makes the frames of a WebSocket's client (RFC 6455, section 5.2), right ones and others, for the tests of servers and sockets.
package clientframe

import "encoding/binary"

// Masked is a frame as clients send it: its first byte, as it is given, the payload's length and the payload under a mask.
func Masked(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x12, 0x34, 0x56, 0x78}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

// Close is the payload of a close frame.
func Close(code int, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason
}
