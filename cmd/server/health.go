package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// health is for a container's health check, where there is no other program to ask with.
func (p *program) health(ctx context.Context, args []string) error {
	var s settings
	fs := p.flags("health", "")
	if err := p.register(fs, &s, "addr", "tls-cert"); err != nil {
		return err
	}
	if _, err := p.parse(fs, args, 0); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return fmt.Errorf("the address %q is not host:port; set NOTIFYQL_ADDR", s.addr)
	}
	switch host { // by number: an image with nothing but the binary knows no localhost
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	scheme, client := "http", http.DefaultClient
	if s.tlsCert != "" {
		scheme = "https"
		// The certificate has the server's public name, and nothing that is secret is said.
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
		client = &http.Client{Transport: transport}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, strings.TrimSpace(string(body)))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server is not ready (%s)", resp.Status)
	}
	return nil
}
