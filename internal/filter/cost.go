package filter

// Comparisons is how many questions about one column's value the predicate asks of a row, at most: what it costs.
func (p *Predicate) Comparisons() int {
	if p.kind == isNull || p.kind == tests {
		return 1
	}
	n := 0
	for _, kid := range p.kids {
		n += kid.Comparisons()
	}
	return n
}
