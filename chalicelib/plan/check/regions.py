"""Where the regions of the large providers are, as far as one storm, grid or law reaches.

Source: the providers' own lists: AWS "Regions and Availability Zones", Google Cloud "Regions and
zones", Azure "List of Azure regions" (public clouds, without government and China).
"""

from __future__ import annotations

from difflib import get_close_matches

from chalicelib.plan.places import Place

_AREAS = {
    "Virginia": "aws:us-east-1 gcp:us-east4 azure:eastus azure:eastus2",
    "Ohio": "aws:us-east-2 gcp:us-east5",
    "South Carolina": "gcp:us-east1",
    "Iowa": "gcp:us-central1 azure:centralus",
    "Illinois": "azure:northcentralus",
    "Texas": "gcp:us-south1 azure:southcentralus",
    "Oregon": "aws:us-west-2 gcp:us-west1",
    "California": "aws:us-west-1 gcp:us-west2 azure:westus",
    "Washington": "azure:westus2",
    "Nevada": "gcp:us-west4",
    "Utah": "gcp:us-west3",
    "Arizona": "azure:westus3",
    "Wyoming": "azure:westcentralus",
    "Montreal": "aws:ca-central-1 gcp:northamerica-northeast1",
    "Toronto": "gcp:northamerica-northeast2 azure:canadacentral",
    "Quebec City": "azure:canadaeast",
    "Calgary": "aws:ca-west-1",
    "Queretaro": "aws:mx-central-1 gcp:northamerica-south1 azure:mexicocentral",
    "Sao Paulo": "aws:sa-east-1 gcp:southamerica-east1 azure:brazilsouth",
    "Santiago": "gcp:southamerica-west1 azure:chilecentral",
    "Ireland": "aws:eu-west-1 azure:northeurope",
    "London": "aws:eu-west-2 gcp:europe-west2 azure:uksouth",
    "Cardiff": "azure:ukwest",
    "Paris": "aws:eu-west-3 gcp:europe-west9 azure:francecentral",
    "Frankfurt": "aws:eu-central-1 gcp:europe-west3 azure:germanywestcentral",
    "Berlin": "gcp:europe-west10",
    "Zurich": "aws:eu-central-2 gcp:europe-west6 azure:switzerlandnorth",
    "Netherlands": "gcp:europe-west4 azure:westeurope",
    "Belgium": "gcp:europe-west1 azure:belgiumcentral",
    "Stockholm": "aws:eu-north-1 gcp:europe-north2",
    "Gavle": "azure:swedencentral",
    "Finland": "gcp:europe-north1",
    "Oslo": "azure:norwayeast",
    "Warsaw": "gcp:europe-central2 azure:polandcentral",
    "Milan": "aws:eu-south-1 gcp:europe-west8 azure:italynorth",
    "Turin": "gcp:europe-west12",
    "Madrid": "gcp:europe-southwest1 azure:spaincentral",
    "Aragon": "aws:eu-south-2",
    "Vienna": "azure:austriaeast",
    "Tel Aviv": "aws:il-central-1 gcp:me-west1 azure:israelcentral",
    "Bahrain": "aws:me-south-1",
    "Dubai": "aws:me-central-1 azure:uaenorth",
    "Doha": "gcp:me-central1 azure:qatarcentral",
    "Dammam": "gcp:me-central2",
    "Cape Town": "aws:af-south-1",
    "Johannesburg": "gcp:africa-south1 azure:southafricanorth",
    "Mumbai": "aws:ap-south-1 gcp:asia-south1",
    "Pune": "azure:centralindia",
    "Chennai": "azure:southindia",
    "Hyderabad": "aws:ap-south-2",
    "Delhi": "gcp:asia-south2",
    "Singapore": "aws:ap-southeast-1 gcp:asia-southeast1 azure:southeastasia",
    "Jakarta": "aws:ap-southeast-3 gcp:asia-southeast2 azure:indonesiacentral",
    "Kuala Lumpur": "aws:ap-southeast-5 azure:malaysiawest",
    "Bangkok": "aws:ap-southeast-7",
    "Hong Kong": "aws:ap-east-1 gcp:asia-east2 azure:eastasia",
    "Taiwan": "aws:ap-east-2 gcp:asia-east1",
    "Tokyo": "aws:ap-northeast-1 gcp:asia-northeast1 azure:japaneast",
    "Osaka": "aws:ap-northeast-3 gcp:asia-northeast2 azure:japanwest",
    "Seoul": "aws:ap-northeast-2 gcp:asia-northeast3 azure:koreacentral",
    "Sydney": "aws:ap-southeast-2 gcp:australia-southeast1 azure:australiaeast",
    "Melbourne": "aws:ap-southeast-4 gcp:australia-southeast2 azure:australiasoutheast",
    "Auckland": "aws:ap-southeast-6 azure:newzealandnorth",
}
_AREA_OF = {key: area for area, keys in _AREAS.items() for key in keys.split()}


def region_key(place: Place) -> str | None:
    """ "azure", "East US" -> "azure:eastus"; None where no region is named or there is none."""
    if place.region is None or place.provider == "own":
        return None
    return f"{place.provider}:{place.region.lower().replace(' ', '')}"


def area_of(place: Place) -> str | None:
    """The part of the world a region is in; None when it is not known."""
    return _AREA_OF.get(region_key(place) or "")


def nearest_region(place: Place) -> str | None:
    """The provider's region whose name is closest."""
    own = [key.partition(":")[2] for key in _AREA_OF if key.startswith(place.provider + ":")]
    name = (region_key(place) or "").partition(":")[2]
    return next(iter(get_close_matches(name, own, n=1)), None)


def same_place(one: Place, other: Place) -> bool:
    """Whether both are the same region of the same provider, so that one event takes both."""
    return region_key(one) is not None and region_key(one) == region_key(other)
