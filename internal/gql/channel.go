package gql

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

// channelField is the field of Subscription that every schema has: any channel's events as they are.
const channelField = "channel"

// channelEvent is an event as that field shows it.
type channelEvent struct{ m *subs.Match }

func (channelEvent) typename() string { return "ChannelEvent" }

func (e channelEvent) get(field string, _ map[string]any) any {
	c := e.m.Change
	switch field {
	case "kind":
		return "EVENT"
	case "channel":
		return c.Topic.Channel
	case "type":
		return c.EventType
	case "data":
		if len(c.New) == 0 || string(c.New) == "null" {
			return nil
		}
		return json.RawMessage(c.New)
	case "transaction":
		if c.XID == 0 { // no database
			return nil
		}
		return strconv.FormatUint(uint64(c.XID), 10)
	case "committedAt":
		return c.At.UTC().Format(time.RFC3339Nano)
	}
	return json.RawMessage(appendCursor(nil, e.m))
}

// channelSynced is the news that all of a channel before a place was sent.
type channelSynced struct {
	channel string
	at      *change.Point
}

func (channelSynced) typename() string { return "ChannelEvent" }

func (s channelSynced) get(field string, _ map[string]any) any {
	switch field {
	case "kind":
		return "SYNCED"
	case "channel":
		return s.channel
	case "type":
		return ""
	case "cursor":
		return json.RawMessage(appendPlace(nil, s.at))
	}
	return nil
}
