package event

// Types of actions (Activity.ActionType): "<resource>.<verb>". docs/events.md says of each what its activity tells.
const (
	// ActionCustomerCreated and ActionCustomerUpdated: customers, their settings and limits.
	ActionCustomerCreated = "customer.created"
	ActionCustomerUpdated = "customer.updated"
	// ActionKeyCreated, ActionKeyRevoked, ActionKeyDenied: API keys. Denied are requests with a key that is not known.
	ActionKeyCreated = "api_key.created"
	ActionKeyRevoked = "api_key.revoked"
	ActionKeyDenied  = "api_key.denied"
	// ActionOperatorAuthenticated and ActionOperatorDenied: requests with the operator's key, or with one that is not the operator's.
	ActionOperatorAuthenticated = "operator.authenticated"
	ActionOperatorDenied        = "operator.denied"
	// ActionAgentCreated and ActionRecipePublished: what executions run.
	ActionAgentCreated    = "agent.created"
	ActionRecipePublished = "recipe.published"
	// ActionSecretSet and ActionSecretDeleted: secrets, never their values.
	ActionSecretSet     = "secret.set"
	ActionSecretDeleted = "secret.deleted"
	// ActionFileUploaded: a file that executions can read.
	ActionFileUploaded = "file.uploaded"
	// ActionScheduleCreated, ActionScheduleChanged, ActionSchedulePaused, ActionScheduleResumed, ActionScheduleDeleted: schedules.
	ActionScheduleCreated = "schedule.created"
	ActionScheduleChanged = "schedule.changed"
	ActionSchedulePaused  = "schedule.paused"
	ActionScheduleResumed = "schedule.resumed"
	ActionScheduleDeleted = "schedule.deleted"
	// ActionExecutionCancelled and those after it: what is asked of an execution that exists.
	ActionExecutionCancelled = "execution.cancelled"
	ActionExecutionResumed   = "execution.resumed"
	ActionExecutionRerun     = "execution.rerun"
	ActionExecutionSignalled = "execution.signalled"
	ActionExecutionApproved  = "execution.approved"
	ActionExecutionRejected  = "execution.rejected"
	// ActionDeadLetterRedriven and ActionDeadLetterDiscarded: messages that could not be processed.
	ActionDeadLetterRedriven  = "deadletter.redriven"
	ActionDeadLetterDiscarded = "deadletter.discarded"
	// ActionCreditsGranted and those after it: credits, and what an account may do with them.
	ActionCreditsGranted    = "credits.granted"
	ActionCreditsExpired    = "credits.expired"
	ActionCreditsReconciled = "credits.reconciled"
	ActionOverdraftChanged  = "credits.overdraft_changed"
	ActionLowBalanceChanged = "credits.low_balance_changed"
	// ActionLedgerReconciled: the ledger was compared with everything that it should agree with.
	ActionLedgerReconciled = "ledger.reconciled"
	// ActionPlanPublished and ActionPlanRetired: what the operator offers.
	ActionPlanPublished = "plan.published"
	ActionPlanRetired   = "plan.retired"
	// ActionSubscriptionUpdated and those after it: what customers have subscribed to. Updated is a plan that is not published.
	ActionSubscriptionUpdated   = "subscription.updated"
	ActionSubscriptionCreated   = "subscription.created"
	ActionSubscriptionChanged   = "subscription.changed"
	ActionSubscriptionCancelled = "subscription.cancelled"
	ActionSubscriptionRenewed   = "subscription.renewed"
	// ActionAuditExported and ActionAuditVerified: the audit log itself.
	ActionAuditExported = "audit.exported"
	ActionAuditVerified = "audit.verified"
	// ActionAuditErased: payloads of the audit log were erased. ActionAuditWebhookSet and ActionAuditWebhookDeleted: where its tree heads are
	// delivered.
	ActionAuditErased         = "audit.erased"
	ActionAuditWebhookSet     = "audit.webhook_set"
	ActionAuditWebhookDeleted = "audit.webhook_deleted"
)

// ResourceAudit is the resource of ActionAuditErased and those after it: the customer's part of the audit log, by the customer's id.
const ResourceAudit = "audit"

// NotePrefix begins the types of actions that recipes record (audit.note): a word of their own follows.
const NotePrefix = "note."
