package queryapi

import (
	"context"
	"time"

	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

// maxPeriod is the longest period of a statement: 92 days, one of which may be an hour longer.
const maxPeriod = 92*24*time.Hour + time.Hour

func (a *API) statement(ctx context.Context, request query.StatementRequest) (query.StatementReply, error) {
	switch {
	case !subject.ValidID(request.CustomerID):
		return query.StatementReply{}, invalidCustomer()
	case !request.From.Before(request.To):
		return query.StatementReply{}, invalid("from must be before to")
	case request.To.Sub(request.From) > maxPeriod:
		return query.StatementReply{}, invalid("the period must be at most 92 days")
	}
	return a.statements.Statement(ctx, request)
}
