package wstest

import (
	"fmt"
)

const (
	initMessage = `{"type":"connection_init"}`
	ackMessage  = `{"type":"connection_ack"}`
)

func subscribe(id, query string) string {
	return fmt.Sprintf(`{"id":%q,"type":"subscribe","payload":{"query":%q}}`, id, query)
}

func next(id, payload string) string {
	return fmt.Sprintf(`{"id":%q,"type":"next","payload":%s}`, id, payload)
}

func complete(id string) string { return fmt.Sprintf(`{"id":%q,"type":"complete"}`, id) }

func next1(i int) string { return fmt.Sprintf(`{"data":%d}`, i) }
