package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// value is a flag of any type.
type value[T any] struct {
	p     *T
	parse func(string) (T, error)
}

func (v *value[T]) Set(s string) error {
	x, err := v.parse(strings.TrimSpace(s))
	if err == nil {
		*v.p = x
	}
	return err
}

func (v *value[T]) String() string {
	if v == nil || v.p == nil {
		return ""
	}
	return fmt.Sprint(*v.p)
}

// boolean is a flag that needs no argument.
type boolean struct{ value[bool] }

func (b *boolean) IsBoolFlag() bool { return true }

func parseBool(s string) (bool, error) {
	x, err := strconv.ParseBool(s)
	if err != nil {
		return false, errors.New("want true or false")
	}
	return x, nil
}

func positive[T ~int | ~int64](parse func(string) (T, error)) func(string) (T, error) {
	return func(s string) (T, error) {
		x, err := parse(s)
		if err == nil && x <= 0 {
			err = errors.New("must be above zero")
		}
		return x, err
	}
}

// parseBytes reads a number of bytes: 65536, 64KB or 1MB, with 1,024 bytes to the KB.
func parseBytes(s string) (int64, error) {
	unit := int64(1)
	for suffix, n := range map[string]int64{"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30} {
		if rest, ok := strings.CutSuffix(strings.ToUpper(s), suffix); ok {
			s, unit = strings.TrimSpace(rest), n
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > (1<<62)/unit {
		return 0, errors.New("want a number of bytes, such as 65536, 64KB or 1MB")
	}
	return n * unit, nil
}

// parseNetworks reads networks, or single addresses, with commas between them.
func parseNetworks(s string) ([]netip.Prefix, error) {
	list, err := words(s)
	if err != nil {
		return nil, err
	}
	networks := make([]netip.Prefix, len(list))
	for i, word := range list {
		if addr, err := netip.ParseAddr(word); err == nil {
			networks[i] = netip.PrefixFrom(addr, addr.BitLen())
		} else if networks[i], err = netip.ParsePrefix(word); err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", word)
		}
	}
	return networks, nil
}
