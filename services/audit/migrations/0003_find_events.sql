-- +goose Up

-- What people and services did, and what did not end well, is rare beside executions that went as they should: both are found without a
-- walk through all rows, one customer's or everybody's. The many rows pay for none of this but the look at the condition.
CREATE INDEX events_acts ON audit.events (customer_id, sequence)
    WHERE action_type NOT IN ('execution.accepted', 'execution.debited', 'execution.completed');
CREATE INDEX events_acts_of_all ON audit.events (sequence)
    WHERE action_type NOT IN ('execution.accepted', 'execution.debited', 'execution.completed');
CREATE INDEX events_failures ON audit.events (customer_id, sequence) WHERE outcome <> 'success';
CREATE INDEX events_failures_of_all ON audit.events (sequence) WHERE outcome <> 'success';

-- The event ids of an execution's own three rows begin with its id; what people did to it is found here, like everything else.
DROP INDEX audit.events_resource;
CREATE INDEX events_resource ON audit.events (resource_id, customer_id, sequence)
    WHERE action_type NOT IN ('execution.accepted', 'execution.debited', 'execution.completed');
