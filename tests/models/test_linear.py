import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from cgeartheye.models.linear import LightClassifier


def test_features_are_standardised_as_scikit_learn_does() -> None:
    random = np.random.default_rng(0)
    features = random.normal(random.normal(0, 5, 12), np.logspace(-3, 3, 12), (40, 12))
    decoder = LightClassifier(12, 3)
    decoder.standardise(torch.from_numpy(features))
    other = torch.from_numpy(random.normal(0, 9, (7, 12))).float()
    scaled = StandardScaler().fit(features).transform(other.numpy())
    expected = decoder.linear(torch.from_numpy(scaled).float())
    torch.testing.assert_close(decoder(other), expected, rtol=1e-4, atol=1e-3)


def test_a_channel_that_only_rounding_moves_counts_nothing() -> None:
    features = torch.rand(30, 4)
    features[:, 1] = 0
    features[:, 2] = 7 * (1 + 1e-6 * features[:, 3])
    decoder = LightClassifier(4, 2)
    decoder.standardise(features)
    changed = features.clone()
    changed[:, 1:3] = torch.rand(30, 2)
    assert decoder(changed).isfinite().all()
    assert torch.equal(decoder(changed), decoder(features))
