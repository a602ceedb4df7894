// Package nemesis holds a checker of what subscribers received against what the database did. Its tests make trouble for real
// nodes, a real Postgres and real sockets, and then ask the checker.
//
// The checker is pure: a Truth, which the database recorded in the writers' own transactions, and what each subscriber noted
// as it came. It uses nothing of the product that it judges.
package nemesis
