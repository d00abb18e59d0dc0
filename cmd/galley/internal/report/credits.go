package report

import (
	"fmt"
	"strconv"
	"time"

	"github.com/galley-engine/galley/schemas/query"
)

// Balance writes what a customer has, and what is left of which grants, in the order in which they are burnt.
func (r *Report) Balance(balance query.BalanceReply) {
	r.Heading(balance.CustomerID, balance.Available.String()+" credits")
	if balance.Overdraft > 0 {
		r.Facts([2]string{"balance", balance.Posted.String() + " credits"}, [2]string{"overdraft", balance.Overdraft.String() + " credits"})
	}
	if balance.Waiting > 0 {
		r.Facts([2]string{"waiting", strconv.Itoa(balance.Waiting) + " for credits"})
	}
	if len(balance.Grants) == 0 {
		return
	}
	rows := make([][]string, len(balance.Grants))
	for i, left := range balance.Grants {
		expires := "never"
		if left.ExpiresAt != nil {
			expires = left.ExpiresAt.UTC().Format(time.DateTime)
		}
		rows[i] = []string{string(left.Kind), left.Remaining.String(), left.Amount.String(), expires, left.ID}
	}
	table(r.w, []column{
		{title: "grant"},
		{title: "left", right: true},
		{title: "of", right: true},
		{title: "expires", style: quiet},
		{title: "id", style: quiet},
	}, rows)
	fmt.Fprintln(r.w)
}
