package gql

// Comparisons is how many a change of the plan's table costs, at most; what is hidden from the client counts.
func (p *Plan) Comparisons() int {
	if p.where == nil {
		return 0
	}
	return p.where.Comparisons()
}
