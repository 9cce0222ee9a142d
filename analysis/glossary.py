"""Every technical term of the report, in a sentence or two."""

TERMS = {
    "loss": (
        "What training minimizes. Each loss is tuned on its own, with its own hyperparameters."
    ),
    "seed": (
        "One repetition of a training run: other initial weights, order of the data and augmentation. Seed k is the"
        " same for every loss, so that losses are compared pair by pair."
    ),
    "mean ± standard error": (
        "The mean over seeds, and how uncertain that mean is: the standard deviation over seeds divided by the "
        "square root of their number."
    ),
    "best set": (
        "The losses that no other loss is shown to beat. A loss in it need not be the best one; a loss outside it "
        "is beaten by at least one other."
    ),
    "separated": (
        "The difference between two losses is larger than chance explains: its adjusted p is at most alpha."
    ),
    "undecided": (
        "Not separated. That is no evidence that the two are the same: more seeds might separate them."
    ),
    "adjusted p": (
        "How often differences at least this clear would turn up among all the pairs tested if no loss differed "
        "from another. Adjusted: the chance of even one false separation among all pairs is at most alpha."
    ),
    "alpha": (
        "The accepted chance that one or more separations are false."
    ),
    "sign-flip test": (
        "The test used with 8 or more seeds. If two losses do not differ, each seed's difference might as well have"
        " had the other sign; the test flips the signs of whole seeds in all ways and asks how unusual what was "
        "observed is (step-down max-T, Westfall and Young 1993)."
    ),
    "Holm's adjustment": (
        "Makes several tests together err with a chance of at most alpha; used where there are too few seeds for "
        "sign flips."
    ),
    "simultaneous interval": (
        "A range for a difference, wide enough that all the intervals of the table hold together with the stated "
        "confidence. The step-down test can be sharper: a pair can be separated while its interval covers zero."
    ),
    "paper rule": (
        "How papers often choose what to print in bold: everything that an unadjusted Welch t-test against the best"
        " mean does not separate (p > 0.05). With 9 equal losses and 8 seeds it takes the bold from at least one of"
        " them half of the time; it is shown only for comparison with published tables."
    ),
    "practically equivalent": (
        "The whole simultaneous interval lies within the declared margin (rope), too small to matter."
    ),
    "seeds to decide": (
        "How many seeds per loss would separate the pair with a chance of 80%, if the true difference is one "
        "standard error larger (first number) or smaller (second) than the one observed."
    ),
    "baseline": (
        "The loss that was declared, before anything ran, as the one to improve on. The pairs with it are tested once "
        "more as a family of their own, which is smaller than that of all pairs and so can separate more."
    ),
    "trial": (
        "One configuration of one loss, tried in the search with several seeds on the validation split."
    ),
    "stopped": (
        "A trial ended early because others of the same loss did clearly better (successive halving)."
    ),
    "failed": (
        "A run that broke, for example because the loss became NaN. It counts with the score of a predictor that "
        "always gives the same answer; it is never left out."
    ),
    "member-epoch": (
        "One seed of one configuration trained for one epoch, the unit of the budget, the same for every loss; a loss "
        "that takes two forward and backward passes per step counts twice."
    ),
    "slot-second": (
        "One second of one training slot (a share of a CPU or GPU): what the budget cost."
    ),
    "validation and test": (
        "Configurations are chosen on the validation split. The test set is met once, by the confirmed runs."
    ),
    "accuracy": (
        "The share of examples whose most probable class is the true one; top-5: one of the five most probable."
    ),
    "NLL": (
        "Negative log-likelihood in nats: how improbable the true class was thought to be. Lower is better. Not "
        "defined for losses that give no probabilities."
    ),
    "ECE": (
        "Expected calibration error (15 equal bins): how far confidence is from the share of right answers. Lower "
        "is better. Few test examples make it too large, even for a model that is perfectly calibrated; the range in "
        "brackets is for the error on endlessly many examples and over seeds, and so reaches further down than up."
    ),
    "margin bias": (
        "How large a margin the softmax loss asks for by itself (Kobayashi 2019, Eq. 7): the log of how many wrong "
        "classes compete with the strongest one, its own share counted as 1. 0 where a single wrong class stands out, "
        "log(classes − 1) where all look alike. Not defined for losses whose probabilities are no softmax."
    ),
    "R² cosine": (
        "Class separation: 1 − the mean cosine distance within classes over the mean cosine distance of all pairs of "
        "penultimate features (Kornblith et al., Eq. 11). 1 where each class points in one direction of its own."
    ),
    "NC1": (
        "Neural collapse (Zhou et al. 2022): how far examples scatter around the mean of their class, against how far "
        "apart the class means are. 0 where every class has shrunk to a point."
    ),
    "NC2": (
        "How far the final layer's weights are from pointing in directions that are all equally far apart; 0 where "
        "they do."
    ),
    "NC3": (
        "How far the class means are from lying along the final layer's weights, in equally separated directions; 0 "
        "where they do."
    ),
    "mCE": (
        "Mean corruption error (Hendrycks and Dietterich 2019): a loss's errors on images with noise, blur and the "
        "like, summed over five severities and divided by the baseline's with the same seed; the mean over the "
        "corruptions. 100%: as the baseline."
    ),
    "relative mCE": (
        "The same of what the corruptions cost: errors beyond those on the images as they are."
    ),
    "range too narrow": (
        "The chosen value of a hyperparameter lies at an end of what was searched: the best may lie outside, and the "
        "loss may have been compared at less than its best."
    ),
    "skewness": (
        "How lopsided differences are over seeds. Strong skew makes false separations more frequent than alpha, most of"
        " all where a loss collapses in rare seeds."
    ),
    "correlation over seeds": (
        "How much the losses share good and bad seeds. The higher, the more pairing helps."
    ),
    "average rank": (
        "On each data set the losses are ranked by their mean over seeds: 1 is the best, equal ones share the mean of "
        "their ranks. The average is over data sets; several networks on one data set count once."
    ),
    "wins": (
        "The number of data sets on which no other loss has a better mean. Shared ones count for each that shares them."
    ),
    "Wilcoxon's signed-rank test": (
        "The test of two losses over data sets: do the differences lean to one side by more than chance explains, the "
        "larger ones weighing more? It looks at these two losses alone. With 5 data sets or fewer it cannot reach "
        "p = 0.05."
    ),
    "Friedman's test": (
        "Do the ranks of all losses together differ over data sets by more than chance explains? The paper modes look "
        "at pairs only if so; Wilcoxon's tests do not need it."
    ),
    "critical difference": (
        "Two average ranks that differ by at least this much are separated by Nemenyi's test (Demsar 2006). In a "
        "critical-difference diagram a bar joins losses of which no two are separated."
    ),
    "paper mode": (
        "A test over data sets as papers use it, shown only for comparison with their diagrams. Conover's test with "
        "Benjamini-Hochberg draws at least one false separation among equal losses in 17% to 27% of diagrams where one "
        "loss is truly worse. What a paper mode says of two losses depends on which others take part."
    ),
    "performance profile": (
        "Dolan and More's (2002): the share of data sets on which a loss comes within a given ratio of the best one. "
        "Where the curve starts, at ratio 1, is the share of data sets that the loss wins."
    ),
    "score distribution": (
        "The share of runs with a better score than a given one, all studies weighing the same (Agarwal et al. 2021). "
        "A curve that lies above another is better. The area is a 95% bootstrap interval over seeds."
    ),
    "IQM": (
        "Interquartile mean: the mean of the middle half of all runs of all studies. Its 95% interval resamples seeds "
        "within each study (stratified bootstrap, Agarwal et al. 2021); it says nothing about other data sets."
    ),
    "exploratory": (
        "Looked at beside the one metric that was declared: not adjusted for everything else that was looked at. What "
        "stands out is a hypothesis for new seeds and new test data."
    ),
    "Brier score": (
        "The squared distance between the probabilities and the one-hot truth, mean over examples, from 0 to 2. Lower "
        "is better."
    ),
    "adaptive ECE": (
        "The calibration error over 15 bins that hold equally many examples each, instead of equally wide ones."
    ),
    "temperature": (
        "A number by which a trained model's logits are divided before they become probabilities, fitted on the "
        "validation split for each seed (Guo et al. 2017). Above 1 the model was too sure of itself, below 1 not sure "
        "enough. It changes no prediction."
    ),
    "P(first better)": (
        "How often a seed of one loss beats the same seed of another, ties half. Called meaningful unless 75% is ruled "
        "out (Bouthillier et al. 2021)."
    ),
    "crossed bootstrap": (
        "Draws seeds and test examples anew at once, to ask what would hold for others of both. Its width is the "
        "unbiased one: plain resampling would count the variance of single examples three times."
    ),
    "NC4": (
        "How often the class whose center is nearest is the class that the network predicts."
    ),
    "angular visual hardness": (
        "The angle between features and the weights of the true class, over the sum of the angles to all (Chen et al. "
        "2020). Lower is easier. Its distribution is over the test examples whose features are kept."
    ),
    "cosine distance": (
        "1 − the cosine of the angle between the penultimate features of two examples: 0 where they point the same "
        "way, 1 where they are orthogonal. Classes are separate where distances within a class lie below those between "
        "classes; for how many examples and pairs, the figure says."
    ),
    "effective rank": (
        "How many directions carry the singular values: exp of their entropy. The participation ratio counts their "
        "squares instead, and so is lower."
    ),
    "CKA": (
        "Centered kernel alignment: how alike two networks see the same examples, whatever the rotation and scale of "
        "their features; 1 is the same, 0 unrelated. Debiased: independent features give 0, not more."
    ),
}

# Headings of tables that say a term in another way.
HEADINGS = {
    "seeds": "seed", "interval": "simultaneous interval", "p": "adjusted p",
    "member-epochs": "member-epoch", "slot-seconds": "slot-second",
    "NLL scaled": "temperature", "Brier": "Brier score", "Brier scaled": "temperature", "ECE scaled": "temperature",
    "adaptive ECE scaled": "temperature", "R² Euclidean": "R² cosine",
    "R² mean subtracted": "R² cosine", "distance within": "cosine distance", "distance between": "cosine distance",
    "nearest center right": "NC4",
    **{f"{of}, {what}": "effective rank" for of in ("activations", "weights", "centroids")
       for what in ("effective rank", "participation ratio")},
    "rank difference": "average rank", "IQM interval": "IQM",
}  # fmt: skip


def term_of(heading: str) -> str:
    """The term that a column's heading stands for, units left out: "test accuracy (%)" -> "accuracy"."""
    name = heading.partition(" (")[0].removeprefix("test ").removeprefix("validation ")
    return HEADINGS.get(name, name)
