package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// dialMany opens n sockets, each with one subscription that the server has seen.
func dialMany(addr string, n int) ([]net.Conn, error) {
	conns := make([]net.Conn, n)
	errs := make(chan error, n)
	turns := make(chan struct{}, 64)
	var dialed sync.WaitGroup
	for i := range conns {
		turns <- struct{}{}
		dialed.Go(func() {
			defer func() { <-turns }()
			c, err := dial(addr)
			conns[i] = c
			if err != nil {
				errs <- err
			}
		})
	}
	dialed.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
		return conns, nil
	}
}

func dial(addr string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n", addr)
	r := bufio.NewReaderSize(c, 512)
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("the server answered %s", answer.Status)
	}
	send(c, `{"type":"connection_init","payload":{"tenantId":"acme"}}`)
	if _, err := readFrame(r); err != nil {
		return nil, err
	}
	send(c, `{"id":"6b0a1a34-8d9b-4a4e-9a57-1a4ad3a07ab4","type":"subscribe","payload":{"query":"subscription { ordersChanged { kind } }"}}`)
	return c, nil
}

// send writes a masked text frame; the mask is zero.
func send(c net.Conn, text string) {
	b := []byte{0x81}
	if len(text) < 126 {
		b = append(b, 0x80|byte(len(text)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(text)))
	}
	b = append(b, 0, 0, 0, 0)
	_, _ = c.Write(append(b, text...))
}

func readFrame(r *bufio.Reader) ([]byte, error) {
	var h [2]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	n := int(h[1])
	if n == 126 {
		var l [2]byte
		if _, err := io.ReadFull(r, l[:]); err != nil {
			return nil, err
		}
		n = int(binary.BigEndian.Uint16(l[:]))
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
