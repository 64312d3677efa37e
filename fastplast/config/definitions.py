"""The one definition of every metric, in words, as it is stored beside the results."""

SATURATED = 0.9  # of |h|, for tanh (Dohare et al. 2024)
GRADIENT_DORMANT = 0.01  # tau of GraMa (Liu et al. 2025)
KERNEL_EXAMPLES = 32  # of the neural tangent kernel and the Gauss-Newton matrix
_EXAMPLES = f"the task's first {KERNEL_EXAMPLES} examples"

# {layer} stands for the name of a layer. Metrics of weights alone are measured at task end and before task 0: the start
# of a task finds the weights of the end of the one before.
DEFINITIONS: dict[str, str] = {
    "loss": "mean cross-entropy over all examples of the task, regulariser left out",
    "error": "fraction of all examples of the task that are misclassified; at the end of task K it is J_K of the paper",
    "test_loss": "mean cross-entropy over the task's test examples, which are never trained on",
    "test_error": "fraction of the task's test examples that are misclassified",
    "earlier_error": "mean of error over the --earlier-tasks tasks before the present one, by the network at its end",
    "earlier_error_{back}": "error on the task so many tasks back, by the network at the end of the present one",
    "earlier_test_error": "as earlier_error, on the test examples of those tasks",
    "earlier_test_error_{back}": "as earlier_error_{back}, on the test examples of that task",
    "penalty": "the regulariser's penalty, strength included",
    "online_loss": "mean over the task's updates of the batch loss before the update",
    "online_error": "mean over the task's updates of the misclassified fraction of the batch before the update",
    "update_l1_mean": "mean size of updates: mean over updates of the mean absolute change of a parameter in each",
    "update_l2_mean": "mean over updates of the Euclidean length of the change of all parameters in one update",
    "displacement_l1": "update norm of the task: mean absolute difference of a parameter between its end and its start",
    "displacement_l2": "Euclidean distance of all parameters between the end and the start of the task",
    "init_distance_l1": "mean absolute difference of a parameter from its initial value",
    "init_distance_l2": "Euclidean distance of all parameters from their initial values",
    "weight_norm_l1": "mean absolute value of a parameter, biases included: the weight norm",
    "weight_norm_l2": "Euclidean norm of all parameters",
    "weight_norm_l1_{layer}": "mean absolute value of the elements of the layer's weight matrix",
    "weight_srank_{layer}": "stable rank of the layer's weight matrix (kernels flattened per output): least j such "
    "that the j largest singular values make up more than 99% of their sum",
    "feature_srank_{layer}": "stable rank of the examples x units matrix of the layer's post-activation features over "
    "all examples of the task; features of a convolution are averaged over space",
    "activation_entropy": "entropy, natural logarithm, of the share of each unit of the last hidden layer in the "
    "data-averaged absolute activation of that layer; 0 where all are zero",
    "dormant_fraction": "fraction of hidden units whose data-averaged absolute activation is at most 0.1 times its "
    "mean over their layer (ReDo score, tau 0.1; a unit of a convolution is a channel)",
    "dead_fraction": "fraction of hidden units that are exactly zero on every example of the task",
    "hessian_srank": "stable rank of the exact Hessian of the mean data loss over the whole task with respect to the "
    "weights and biases of the last two layers; 0 for a zero Hessian",
    "hessian_srank_lo": "certified lower bound of hessian_srank",
    "hessian_srank_hi": "certified upper bound of hessian_srank",
    "hessian_zero": "whether that Hessian is exactly zero",
    "hessian_sharpness": "largest absolute eigenvalue of that Hessian; by truncated or lanczos, of the part that was "
    "solved, a lower bound; by residual, that of the Hessian without its Gauss-Newton part, which bounds neither way",
    "hessian_nuclear_norm": "sum of the absolute eigenvalues of that Hessian; by a method other than exact, the "
    "estimate of it that hessian_srank rests on",
    "hessian_frobenius_norm": "root of the sum of the squared eigenvalues of that Hessian",
    "hessian_trace": "trace of that Hessian",
    "hessian_negative_mass": "share of the nuclear norm held by negative eigenvalues of what was solved",
    "hessian_overlap": "g'Hg / (|g| |Hg|), g the gradient of the mean data loss over the whole task in the same block",
    "hessian_dimension": "dimension of the space left to the eigenvalue solver after exact deflation",
    "hessian_depth": "eigenvalues computed: hessian_dimension by the exact method, otherwise the size of the basis",
    "hessian_trace_error": "|sum of eigenvalues - trace| / nuclear norm, the trace from the data alone",
    "hessian_frobenius_error": "|sum of squared eigenvalues - squared Frobenius norm| / squared Frobenius norm",
    "hessian_assembly_error": "disagreement of the assembled Hessian's product with the gradient and the closed form "
    "of that product, relative to the Frobenius norm",
    "hessian_method": "how the stable rank was computed: exact (all eigenvalues), truncated, lanczos or residual "
    "(certified bounds from a part)",
}
# Metric that is measured on request to its columns.
DEFINITIONS_ON_REQUEST: dict[str, dict[str, str]] = {
    "effective_rank": {
        "feature_effective_rank_{layer}": "exponential of the entropy of the singular values, as shares of their sum, "
        "of the examples x units matrix of the layer's post-activation features",
        "weight_effective_rank_{layer}": "the same of the layer's weight matrix (kernels flattened per output)",
    },
    "layer_units": {
        "dormant_fraction_{layer}": "dormant_fraction of the layer's units alone",
        "dead_fraction_{layer}": "dead_fraction of the layer's units alone",
    },
    "saturation": {
        "saturation_{layer}": f"fraction of the layer's activations, over examples and units, beyond {SATURATED} in "
        "absolute value: for tanh"
    },
    "sign_entropy": {
        "sign_entropy_{layer}": "mean over units of the entropy, natural logarithm, of being positive on an example; "
        "at most ln 2"
    },
    "gradient_dormancy": {
        "gradient_dormant_fraction_{layer}": "fraction of the layer's units the mean absolute gradient of whose "
        f"incoming weights, of the loss over the whole task, is at most {GRADIENT_DORMANT} times its mean over the "
        "layer (GraMa score)"
    },
    "spectral_norm": {
        "spectral_norm_{layer}": "largest singular value of the layer's weight matrix (kernels flattened per output)"
    },
    "ntk_rank": {
        "ntk_rank": f"stable rank of the Gram matrix of the gradients of all outputs on {_EXAMPLES} with respect to "
        "all parameters (the neural tangent kernel)"
    },
    "gauss_newton_rank": {
        "gauss_newton_rank": f"stable rank of the Gauss-Newton matrix of the mean loss on {_EXAMPLES} with respect to "
        "all parameters"
    },
    "churn": {
        "churn": "change of the outputs on the task's other examples by the next update of the optimizer, were its "
        "minibatch the task's first examples and without what a method adds: mean Kullback-Leibler divergence of the "
        "classes' probabilities before it from those after it, in nats; mean squared change where labels are numbers"
    },
}
